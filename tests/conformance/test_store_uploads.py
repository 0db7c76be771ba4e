"""The store's uploads: taken over once, by the transaction that names their files, or forgotten before their files."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.uploads import PostgresUploads
from hub.domain.errors import Unavailable
from hub.domain.submission import Accepted, AttachmentFacts, Conflict, StoredAttachment, Submission
from hub.ports.uploads import Upload, UploadedFile
from tests.conformance.samples import execute, submission

OLD = timedelta(days=10)


def upload(sender: str = "site", files: int = 2) -> Upload:
    id = uuid4()
    told = [UploadedFile(f"{id.hex}-{n}", n, bytes([n]) * 32) for n in range(files)]
    return Upload(id, sender, b"wrapped", told)


def taking(number: int, of: Upload) -> Submission:
    """A submission whose files are those of an upload."""
    files = tuple(
        StoredAttachment(AttachmentFacts(place, "VA"), file.size, file.location)
        for place, file in enumerate(of.files, start=1)
    )
    return replace(submission(number), attachments=files, upload=of.id)


async def test_an_upload_is_found_by_its_sender_alone_with_its_files_in_order(database: Database) -> None:
    uploads, one = PostgresUploads(database), upload(files=12)
    await uploads.keep(one)
    assert await uploads.find("site", one.id) == one
    assert await uploads.find("autre", one.id) is None
    assert await uploads.find("site", uuid4()) is None


async def test_accepting_takes_an_upload_over_and_its_files_are_named_all_the_time(
    database: Database,
) -> None:
    uploads, intake, one = PostgresUploads(database), PostgresIntake(database), upload()
    names = [file.location for file in one.files]
    await uploads.keep(one)
    assert await intake.named(names) == set(names)
    [accepted] = await intake.accept([taking(1, one)])
    assert isinstance(accepted, Accepted)
    assert accepted.fresh
    assert await uploads.find("site", one.id) is None
    assert await intake.named(names) == set(names)
    # Again, as after a crash: it is recognised, and asks for no upload.
    [again] = await intake.accept([taking(1, one)])
    assert again == replace(accepted, fresh=False)


async def test_a_submission_is_recognised_by_its_name_and_content(database: Database) -> None:
    intake, one = PostgresIntake(database), submission(1)
    assert await intake.recognise(one.id, one.digest) is None
    [accepted] = await intake.accept([one])
    assert isinstance(accepted, Accepted)
    assert await intake.recognise(one.id, one.digest) == replace(accepted, fresh=False)
    assert await intake.recognise(one.id, bytes(32)) == Conflict(one.id)


async def test_of_two_that_name_one_upload_one_is_accepted_and_nothing_of_the_other(
    database: Database,
) -> None:
    uploads, intake = PostgresUploads(database), PostgresIntake(database)
    for number in range(1, 20, 2):
        one = upload()
        await uploads.keep(one)
        rivals = [[taking(number, one)], [taking(number + 1, one)]]
        told = await asyncio.gather(*map(intake.accept, rivals), return_exceptions=True)
        assert sorted(isinstance(each, Unavailable) for each in told) == [False, True]
        there = await intake.named([file.location for file in one.files])
        assert len(there) == len(one.files)


@pytest.mark.parametrize("first", ["accept", "forget", "together"])
async def test_an_upload_is_taken_over_or_forgotten_and_never_half_of_each(
    database: Database, first: str
) -> None:
    uploads, intake, one = PostgresUploads(database), PostgresIntake(database), upload(files=50)
    await uploads.keep(one)
    names = [file.location for file in one.files]
    now = datetime.now(UTC) + timedelta(minutes=1)
    accept, forget = intake.accept([taking(1, one)]), uploads.forget("site", now)
    work = [accept, forget] if first != "forget" else [forget, accept]
    if first == "together":
        told = await asyncio.gather(*work, return_exceptions=True)
    else:
        told = [(await asyncio.gather(each, return_exceptions=True))[0] for each in work]
    gone = any(isinstance(each, Unavailable) for each in told)
    assert await intake.named(names) == (set() if gone else set(names))
    assert await uploads.find("site", one.id) is None


async def test_what_is_old_enough_is_told_by_sender_and_forgotten_up_to_a_time(database: Database) -> None:
    uploads = PostgresUploads(database)
    days: dict[UUID, int] = {}
    for sender, age in (("a", 12), ("a", 11), ("a", 1), ("b", 30), ("c", 2)):
        one = upload(sender)
        await uploads.keep(one)
        days[one.id] = age
    for id, age in days.items():
        await execute(
            database, f"UPDATE upload SET created_at = now() - interval '{age} days' WHERE id = '{id}'"
        )
    told = await uploads.newest_older_than(OLD)
    assert list(told) == ["a", "b"]
    assert timedelta(days=11) <= datetime.now(UTC) - told["a"] < timedelta(days=11, hours=1)
    assert await uploads.forget("a", told["a"]) == 4
    assert await uploads.forget("a", told["a"]) == 0
    assert list(await uploads.newest_older_than(timedelta(0))) == ["a", "b", "c"]
    assert list(await uploads.newest_older_than(OLD)) == ["b"]
