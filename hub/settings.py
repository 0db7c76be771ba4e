"""Settings: what an operator may choose, each by an environment variable `HUB_…` or the command line.

One frozen class, one section for each room. `hub check` validates them without starting anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hub.domain.addresses import Network, read_networks

Waits = Annotated[tuple[float, ...], NoDecode]
Hour = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Hours = Annotated[tuple[Hour, ...], NoDecode, Field(min_length=1, max_length=24)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="HUB_", frozen=True, hide_input_in_errors=True)

    folder: Path = Field(Path("var/hub"), description="Where the hub keeps what it keeps.")
    rules: Path | None = Field(None, description="The rules folder; default: the one that is installed.")
    partners: Path | None = Field(None, description="The partners file (YAML or JSON).")

    # The store. None: the embedded PostgreSQL in `folder`.
    database_url: SecretStr | None = None
    database_connections: int = Field(16, ge=4, le=200)
    log_partitions: int = Field(4, ge=1, le=64, description="Of each topic of the embedded log.")

    # Apache Kafka as the log. None: the embedded log, in tables of the store.
    kafka: str | None = Field(None, description="Where its brokers are found: host:port, several by commas.")
    kafka_prefix: str = Field("", max_length=100, description="Before the names of its topics and groups.")
    kafka_partitions: int = Field(64, ge=1, le=10_000, description="Of each topic; fixed once it is there.")
    kafka_replicas: int = Field(3, ge=1, le=10, description="Copies of each partition.")
    kafka_tls: bool = Field(False, description="Whether brokers are spoken to over TLS.")
    kafka_ca: Path | None = Field(
        None, description="Who signed the brokers' certificates; default: the system's."
    )
    kafka_certificate: Path | None = Field(None, description="The hub's own certificate (mTLS), PEM.")
    kafka_key: Path | None = Field(None, description="Its key, PEM.")
    kafka_user: str | None = Field(None, description="For SASL; None: no SASL.")
    kafka_password: SecretStr | None = None
    kafka_mechanism: str = Field("SCRAM-SHA-512", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$")
    kafka_session: float = Field(
        10, gt=0, description="Seconds without a sign until a role counts as dead; brokers allow 6 and more."
    )

    # Which schema a record in Kafka has: by its number there. None: its name in a header.
    schema_registry: str | None = Field(None, description="Where a schema registry is found: http(s)://…")
    schema_registry_user: str | None = None
    schema_registry_password: SecretStr | None = None
    schema_registry_ca: Path | None = Field(
        None, description="Who signed its certificate; default: the system's."
    )

    # Senders that write submissions into topics of their own, beside the HTTP API.
    deposits: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="The senders that may, separated by commas; each as its tokens name it."
    )
    deposits_partitions: int = Field(4, ge=1, le=1_000, description="Of each sender's topic.")

    # The key that wraps every submission's key: from the environment (base64, 32 bytes), a program, or a file.
    key: SecretStr | None = None
    key_command: str | None = Field(
        None, description="A program and its arguments, which writes what a key file holds: it may ask a KMS."
    )
    key_file: Path | None = Field(None, description="Default: `folder`/hub.key, made at the first start.")

    # Where attachments lie. None: in `folder`. Else an S3 bucket: s3://bucket/prefix.
    attachments: str | None = Field(None, pattern="^s3://[a-z0-9.-]+(/.*)?$")
    s3_endpoint: str | None = Field(None, description="Of a store that is not Amazon's: https://host:port.")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_ca: Path | None = Field(None, description="Who signed its certificate; default: the system's.")
    s3_patience: float = Field(15, gt=0, description="Seconds for a request, a part of a file included.")

    # The HTTP door.
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    public_url: str | None = Field(None, description="How partners reach this hub; default: host and port.")
    link_lifetime: float = Field(72 * 3600, gt=0, description="Seconds a signed link is good for.")
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks of the proxies before this hub, whose X-Forwarded-For is believed (CIDR, by commas).",
    )
    post_time: float = Field(3600, gt=0, le=3600, description="Seconds a post may take.")
    body_limit: int = Field(1_200_000_000, gt=0, description="Bytes of a multipart post.")
    json_limit: int = Field(1_200_000, gt=0, description="Bytes of a JSON post, or of a line of a batch.")
    rate_limit: float = Field(200, gt=0, description="Submissions a second for each sender.")
    in_flight_limit: int = Field(50, gt=0, description="Posts at once for each sender.")
    disk_reserve: float = Field(0.05, ge=0, lt=1, description="Share of the disk kept free: below it, 503.")

    # The rule book.
    rules_most: int = Field(20_000, ge=1, description="Rules that a rules folder may hold in all.")
    rules_lead: float = Field(5, ge=0, description="Seconds between publishing and being in force.")

    # Supervision, where the log is Kafka.
    silence: float = Field(10, gt=0, description="How many deliveries must be missed before silence is told.")

    # Reconciliation, and what operators are told of.
    reconcile_recent: float = Field(3600, gt=0, description="Seconds between checks of the last three days.")
    reconcile_whole: float = Field(86400, gt=0, description="Seconds between checks of everything.")
    alarm_unfetched: float = Field(2 * 86400, gt=0, description="Seconds in a mailbox that nobody reads.")
    alarm_unacknowledged: float = Field(3 * 86400, gt=0, description="Seconds until fetched is acknowledged.")
    alarm_undecided: float = Field(
        86400, gt=0, description="Seconds that a submission waits for its decision."
    )
    alarm_waiting: float = Field(86400, gt=0, description="Seconds that a delivery may be on its way.")
    alarm_failing: float = Field(3600, gt=0, description="Seconds that an endpoint may fail.")
    alarm_expiring: float = Field(
        30 * 86400, gt=0, description="Seconds before an endpoint's certificates run out."
    )

    # Dispatch.
    retry_waits: Waits = Field(
        (5, 60, 300, 1800, 7200, 18000, 36000, *[86400] * 6),
        description="Seconds before each further attempt, separated by commas; after the last: parked.",
    )
    retry_waits_sftp: Waits | None = Field(None, description="The same, of this channel alone.")
    retry_waits_mail: Waits | None = None
    retry_waits_webhook: Waits | None = None
    retry_procedures: dict[str, tuple[float, ...]] = Field(
        {}, description='The same, of procedures, on any channel: {"CODE": [60, 3600]}.'
    )
    attempt_limit: float = Field(30, gt=0, description="Seconds to wait for a partner's silent server.")
    returns_every: float = Field(300, ge=1, description="Seconds between looks at a partner's return folder.")
    lanes_at_once: int = Field(2000, ge=1, description="Partners served side by side, each on a channel.")
    failing_at_once: int = Field(500, ge=1, description="The same, apart, of those whose endpoint fails.")
    rows_at_once: int = Field(10_000, ge=1, description="Deliveries in hand, of all partners together.")
    vendor_opens_at: int = Field(
        5,
        ge=2,
        description="Partners with software of one vendor that fail in a row, for all of them to rest.",
    )
    page: int = Field(20, ge=1, le=500, description="Deliveries of one lane taken at once.")
    lease: float = Field(30, ge=1, description="Seconds a worker holds a lane before it must renew.")
    stop_grace: float = Field(20, ge=0, description="Seconds that running deliveries have when stopping.")

    # The way to partners' servers.
    outgoing_allow: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks beside the public internet that partners' servers may stand in (CIDR, by commas).",
    )

    # Mail: the hub's own server, for partners whose endpoints name none.
    mail_relay_host: str | None = None
    mail_relay_port: int | None = Field(
        None, ge=1, le=65535, description="Default: what its TLS usually has."
    )
    mail_relay_tls: str = Field("starttls", pattern="^(starttls|tls|none)$")
    mail_relay_ca: Path | None = Field(
        None, description="Who signed its certificate, PEM; default: the system's."
    )
    mail_relay_user: str | None = None
    mail_relay_password_file: Path | None = Field(None, description="Holds its password, in one line.")
    mail_relay_sender: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$",
        description="The address mails come from.",
    )
    mail_return_domain: str | None = Field(
        None, pattern="^[A-Za-z0-9.-]+$", description="Of the addresses that mails come back to."
    )
    bounces_host: str = Field("127.0.0.1", description="Where mails that come back are received, by LMTP.")
    bounces_port: int | None = Field(None, ge=1, le=65535, description="None: nowhere.")
    digest_daily: Hours = Field(("08:00",), description="When a partner's daily mail leaves, in Paris.")
    digest_twice_daily: Hours = Field(("08:00", "14:00"), description="When its two mails a day leave.")

    # Replays.
    replay_approval: int = Field(
        1000, ge=0, description="Of how many items at most a replay needs no other operator's approval."
    )

    log_format: str = Field("auto", pattern="^(auto|json|console)$")

    @field_validator("outgoing_allow", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        return read_networks(value) if isinstance(value, str) else value

    @field_validator("deposits", "digest_daily", "digest_twice_daily", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "retry_waits", "retry_waits_sftp", "retry_waits_mail", "retry_waits_webhook", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(float(part) for part in value.split(",") if part.strip())
        return value


class WrittenSettings(Settings):
    """The same from a file of lines `HUB_NAME=value`, and nothing from the environment; lines of other names
    are nobody's business here."""

    model_config = SettingsConfigDict(dotenv_filtering="match_prefix", env_file_encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Raises ValidationError, OSError, ValueError when it is no text."""
        path.read_text("utf-8")
        return cls(_env_file=path)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (dotenv_settings,)
