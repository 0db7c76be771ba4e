"""The main job, once, on one machine: `make demo`.

Form site → hub → partners' servers, a tenth of which misbehave; then healing, replay, and the accounts. It
exits with 1 if anything is unaccounted for or arrived other than it was sent.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo import evidence
from demo.forms import Form, Posted, forms, post
from demo.hub import Hub
from demo.plan import World, partners_file, plan
from demo.stagehands import Servers, servers
from hub.adapters.rules.territory import load_territory

SUBMISSIONS = 1000
WAITS = "0.2,0.5,1"
LIMIT = "2"
_QUIET_WITHIN = 60.0
_MOST = 0.95
"""The share of deliveries at rest at which the operator looks: the others are still being tried."""
_AT_REST = ("delivered", "acknowledged", "parked")


@dataclass(slots=True)
class Story:
    """What happened so far; `report` is what is written at the end."""

    folder: Path
    console: Console
    started: float = field(default_factory=time.monotonic)
    report: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def tell(self, sentence: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.started:5.1f} s[/dim]  {sentence}")


async def main() -> int:
    run = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    folder = Path("var/demo") / run
    folder.mkdir(parents=True)
    story = Story(folder, Console())
    try:
        await _play(story, run)
    except RuntimeError as error:
        story.faults.append(str(error))
    story.report["seconds"] = round(time.monotonic() - story.started, 1)
    story.report["accounted"] = not story.faults
    for place in (folder / "report.json", Path("var/demo/report.json")):
        place.write_text(json.dumps(story.report, indent=2) + "\n")
    for fault in story.faults[:20]:
        story.console.print(f"[red]✗[/red] {fault}", highlight=False)
    if story.faults:
        story.console.print(f"[bold red]Something is not accounted for.[/bold red] {folder}/report.json")
        return 1
    story.console.print(
        f"[bold green]Everything is accounted for[/bold green], every file arrived as it was sent, in"
        f" {story.report['seconds']} s. Figures: {folder}/report.json"
    )
    return 0


async def _play(story: Story, run: str) -> None:
    world = plan(load_territory(_territory()))
    _introduce(story, world)
    async with AsyncExitStack() as stack:
        stand = await stack.enter_async_context(servers(world, story.folder / "partners"))
        hub = await stack.enter_async_context(_hub(story, world, stand))
        procedures = sorted({procedure for p in world.partners for procedure, _ in p.subscriptions})
        words = [word for procedure in procedures for word in ("--procedure", procedure)]
        sender_token = await hub.token("sender", "demo-site", *words)
        sender = await stack.enter_async_context(_session(sender_token))
        others = asyncio.gather(
            hub.token("operator", "demo", "--role", "operator"),
            hub.tokens("partner", *(partner.subscriber for partner in world.on("mailbox"))),
        )
        waiting = forms(world, run, SUBMISSIONS)
        posted = await _post_all(story, hub, sender, waiting)
        operator_token, mailbox_tokens = await others
        operator = await stack.enter_async_context(_session(operator_token))
        parked = await _show_parked(story, hub, operator)
        await stand.heal()
        story.tell("The partners' servers are healed. An operator sends everything parked again.")
        replayed = await _replay(story, hub, operator, parked)
        # Endpoints that refused were closed: what lies before them waits until somebody says that they are mended.
        opened = await hub.open_lanes(operator, "demo: the partners' servers are healed")
        story.tell(f"{opened} lanes whose endpoint had refused are opened.")
        await _quiet(story, hub, operator, "after the replay")
        # Whose last attempt was under way at the healing was parked after the list was read.
        while late := await hub.deliveries(operator, state="parked"):
            if replayed > 2 * len(parked):
                raise RuntimeError(f"{len(late)} deliveries are parked again and again")
            replayed += await _replay(story, hub, operator, late)
            await _quiet(story, hub, operator, "after a second look")
        arrivals = await _empty_mailboxes(story, hub, mailbox_tokens)
        await _fetched(stand)
        path = story.folder / "accounts.json"
        reconciling = asyncio.create_task(hub.command("reconcile", "--json", str(path)))
        comparison = await _compare(story, hub, operator, waiting, arrivals)
        code, text = await reconciling
        story.console.print(text, highlight=False, markup=False)
        _check_accounts(story, code, json.loads(path.read_text("utf-8")))
        await _timeline(story, hub, operator, parked)
        story.report |= {
            "parked": replayed,
            "replayed": replayed,
            "duplicates": comparison.repeated,
            "posted_twice": posted.repeated,
            "files_compared": comparison.files,
            "parcels_compared": comparison.parcels,
        }


def _introduce(story: Story, world: World) -> None:
    channels = Counter(partner.channel for partner in world.partners)
    misbehaving = sum(partner.misbehaves is not None for partner in world.partners)
    story.console.rule("[bold]Aiguillage: télédossiers from one form site to the town halls of Haute-Savoie")
    story.tell(
        f"{len(world.partners)} partners: {len(world.communes) - len(world.silent)} communes, inter-communal"
        f" bodies, and the ministry of health. Names and SIREN are real; establishment numbers, servers and"
        f" addresses are made up. By channel: {', '.join(f'{n} {c}' for c, n in channels.most_common())}."
    )
    story.tell(
        f"{misbehaving} of their servers misbehave: they refuse connections, hang, answer 503 or refuse the"
        f" mailbox. The demo's own policy: waits of {WAITS.replace(',', ', ')} s, then parked; an attempt"
        f" waits {LIMIT} s for a silent server."
    )


# --- the hub ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _hub(story: Story, world: World, stand: Servers) -> AsyncIterator[Hub]:
    partners = story.folder / "partners.json"
    partners.touch(0o600)
    partners.write_text(json.dumps(partners_file(world, stand.endpoints), ensure_ascii=False))
    environment = {
        "HUB_FOLDER": str(story.folder / "hub"),
        "HUB_HOST": "127.0.0.1",
        "HUB_PORT": str(_free_port()),
        "HUB_PARTNERS": str(partners),
        "HUB_RETRY_WAITS": WAITS,
        "HUB_ATTEMPT_LIMIT": LIMIT,
        "HUB_LOG_FORMAT": "json",
        # Its partners' servers stand on this machine.
        "HUB_OUTGOING_ALLOW": "127.0.0.0/8",
        # The demo runs wherever a newcomer has a little room.
        "HUB_DISK_RESERVE": "0.005",
    }
    hub = await Hub.start(environment, story.folder / "hub.log")
    story.tell(
        f"The hub runs on an embedded PostgreSQL and answers at {hub.url} (its log: {story.folder}/hub.log)."
    )
    try:
        yield hub
    finally:
        await hub.stop()


def _session(token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=64)
    )


def _territory() -> Path:
    spec = importlib.util.find_spec("routing_rules.territory")
    if spec is None or spec.origin is None:
        raise RuntimeError("the territory is not installed")
    return max(Path(spec.origin).parent.glob("*.tsv.gz"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


# --- the journey --------------------------------------------------------------------------------------


async def _post_all(story: Story, hub: Hub, sender: aiohttp.ClientSession, waiting: Sequence[Form]) -> Posted:
    story.tell(
        f"A form site posts {len(waiting)} submissions with XML, JSON and PDF files, some of them twice."
    )
    with _progress(story) as progress:
        posting = progress.add_task("posted", total=len(waiting), detail="")
        resting = progress.add_task("deliveries at rest", total=None, detail="")
        watching = asyncio.create_task(_watch(hub, sender, progress, resting))
        posted = await post(sender, hub.url, waiting, lambda: progress.advance(posting))
        took = time.monotonic() - story.started
        await _wait_until_rest(hub, sender, _MOST)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        _show(progress, resting, await hub.counts(sender))
    story.tell(f"All posted after {took:.1f} s; {posted.repeated} posted twice got the same answer twice.")
    if posted.refused or posted.differing_answers:
        story.faults.append(
            f"{posted.refused} posts were refused, {posted.differing_answers} repeated posts got another answer"
        )
    return posted


async def _watch(hub: Hub, session: aiohttp.ClientSession, progress: Progress, bar: Any) -> None:
    while True:
        _show(progress, bar, await hub.counts(session))
        await asyncio.sleep(0.5)


def _show(progress: Progress, bar: Any, counts: Mapping[str, int]) -> None:
    planned = sum(count for name, count in counts.items() if name.startswith("deliveries."))
    rested = sum(counts.get(f"deliveries.{state}", 0) for state in _AT_REST)
    detail = f"{counts.get('deliveries.waiting', 0)} waiting, {counts.get('deliveries.parked', 0)} parked"
    progress.update(bar, completed=rested, total=planned or None, detail=detail)


def _progress(story: Story) -> Progress:
    return Progress(
        TextColumn("         {task.description:<18}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=story.console,
    )


async def _wait_until_rest(hub: Hub, session: aiohttp.ClientSession, share: float = 1.0) -> None:
    """Until everything is decided and this share of the deliveries is at rest. Raises RuntimeError when that
    takes too long."""
    deadline = time.monotonic() + _QUIET_WITHIN
    while time.monotonic() < deadline:
        counts = await hub.counts(session)
        named = sum(count for name, count in counts.items() if name.startswith("deliveries."))
        rested = sum(counts[f"deliveries.{state}"] for state in _AT_REST)
        if not counts["submissions.undecided"] and rested >= named * share:
            return
        await asyncio.sleep(0.25)
    raise RuntimeError(f"the hub is not at rest after {_QUIET_WITHIN:.0f} s: {counts}")


async def _quiet(story: Story, hub: Hub, session: aiohttp.ClientSession, when: str) -> None:
    await _wait_until_rest(hub, session)
    counts = await hub.counts(session)
    story.tell(
        f"{counts.get('deliveries.delivered', 0)} delivered, {counts.get('deliveries.parked', 0)} parked {when}."
    )


async def _show_parked(story: Story, hub: Hub, operator: aiohttp.ClientSession) -> list[dict[str, Any]]:
    parked = await hub.deliveries(operator, state="parked")
    table = Table("cause", "channel", "deliveries", "partners", title="Parked, by cause")
    groups = Counter((item["cause"], item["channel"]) for item in parked)
    for (cause, channel), count in groups.most_common():
        partners = {item["subscriber"] for item in parked if item["cause"] == cause}
        table.add_row(cause, channel, str(count), str(len(partners)))
    story.console.print(table)
    counts = await hub.counts(operator)
    moving = sum(counts[f"deliveries.{state}"] for state in ("planned", "waiting"))
    story.tell(f"{len(parked)} are parked; {moving} others will still be tried by themselves.")
    return parked


async def _replay(
    story: Story, hub: Hub, operator: aiohttp.ClientSession, parked: Sequence[Mapping[str, Any]]
) -> int:
    reason = "demo: the partners' servers are healed"
    orders = [{"cause": cause, "reason": reason} for cause in sorted({item["cause"] for item in parked})]
    replayed = sum(int(told["sent"]) for told in await hub.replay(operator, orders))
    # Some may have been parked since the list was read.
    if replayed < len(parked):
        story.faults.append(f"{len(parked)} were parked, {replayed} were sent again")
    return replayed


async def _empty_mailboxes(story: Story, hub: Hub, tokens: Sequence[str]) -> list[evidence.Arrival]:
    """Partners without a server list, fetch and acknowledge what lies in their mailbox."""
    arrivals: list[evidence.Arrival] = []
    for token in tokens:
        async with _session(token) as session:
            arrivals += await _empty_mailbox(hub, session)
    story.tell(f"{len(arrivals)} parcels were fetched from mailboxes and acknowledged.")
    return arrivals


async def _empty_mailbox(hub: Hub, session: aiohttp.ClientSession) -> list[evidence.Arrival]:
    arrivals = []
    page = await hub.read(session, "/v1/mailbox")
    while page["items"]:
        for item in page["items"]:
            files = {}
            for file in item["files"]:
                async with aiohttp.request("GET", file["link"]) as answer:
                    files[int(file["number"])] = await answer.read()
            description = json.loads(files[0])
            subscriber = f"{description['recipient']['siret']}-{description['recipient']['branch']}"
            arrivals.append(evidence.Arrival(subscriber, item["delivery"], files))
            async with session.post(f"{hub.url}/v1/mailbox/{item['delivery']}/acknowledge") as answer:
                if answer.status != 200:
                    raise RuntimeError(f"an acknowledgement answered {answer.status}")
        page = await hub.read(session, "/v1/mailbox")
    return arrivals


async def _fetched(stand: Servers) -> None:
    """Webhook partners fetch by signed links, after they answered."""
    deadline = time.monotonic() + 20
    while await stand.pending() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


# --- the proof ----------------------------------------------------------------------------------------


def _check_accounts(story: Story, code: int, told: Mapping[str, Any]) -> None:
    """`code` and `told`: what `hub reconcile` ended with, and wrote."""
    accounts = told["accounts"]
    story.faults += told["differences"]
    if code:
        story.faults.append("the hub's own accounts do not add up")

    def total(name: str) -> int:
        return sum(int(line[name]) for line in accounts["submissions"])

    states: Counter[str] = Counter()
    for line in accounts["deliveries"]:
        states.update(line["terms"])
    story.report |= {
        "accepted": total("accepted"),
        "routed": total("routed"),
        "unroutable": total("unroutable"),
        "planned": sum(line["named"] for line in accounts["deliveries"]),
        "delivered": states["delivered"] + states["acknowledged"],
    }
    if story.report["accepted"] != SUBMISSIONS:
        story.faults.append(f"{SUBMISSIONS} submissions were posted, {story.report['accepted']} accepted")
    if story.report["delivered"] != story.report["planned"]:
        story.faults.append("not every delivery that was planned is delivered")


async def _compare(
    story: Story,
    hub: Hub,
    operator: aiohttp.ClientSession,
    waiting: Sequence[Form],
    mailbox_arrivals: Sequence[evidence.Arrival],
) -> evidence.Comparison:
    partners = story.folder / "partners"
    arrivals = [
        *evidence.by_sftp(partners / "sftp"),
        *evidence.by_mail(partners / "mail"),
        *evidence.by_webhook(partners / "webhook"),
        *mailbox_arrivals,
    ]
    told = {item["id"]: item for item in await hub.deliveries(operator)}
    found = evidence.compare(arrivals, told, {form.external_id: form for form in waiting})
    story.faults += found.differences
    story.tell(
        f"{found.files} files in {found.parcels} parcels compared byte for byte with what was sent:"
        f" {len(found.differences)} differ, {found.repeated} parcels came twice (under one name)."
    )
    return found


async def _timeline(
    story: Story, hub: Hub, operator: aiohttp.ClientSession, parked: Sequence[Mapping[str, Any]]
) -> None:
    """One submission from receipt to delivery: one that was parked and sent again, if there is one."""
    if not parked:
        return
    told = await hub.read(operator, f"/v1/submissions/{parked[0]['submission']}")
    story.console.print(
        f"\n[bold]One submission[/bold] {told['external_id']} ({told['procedure']}), rule book {told['snapshot']}"
    )
    lines = [(line["at"], line["event"], line["detail"]) for line in told["journal"]]
    for delivery in told["deliveries"]:
        why = "; ".join(step for reason in delivery["reasons"] for step in (reason["rule"], *reason["steps"]))
        lines.append((delivery["created_at"], f"for {delivery['partner']} over {delivery['channel']}", why))
        lines += [
            (
                attempt["started_at"],
                f"attempt {attempt['sending']}.{attempt['number']} {attempt['outcome']}",
                attempt["cause"] or attempt["receipt"] or "",
            )
            for attempt in delivery["attempts"]
        ]
    for at, event, detail in sorted(lines):
        story.console.print(f"  [dim]{at[11:23]}[/dim]  {event:<34} [dim]{detail}[/dim]", highlight=False)
    story.console.print()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
