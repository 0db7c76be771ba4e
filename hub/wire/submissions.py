"""What senders post: checked, and brought into its canonical form."""

from __future__ import annotations

from hub.domain.document import Document, OfferedFile
from hub.wire.reading import read_json
from schemas.models.submission import PlaceIn, SubmissionIn


def read_submission(body: bytes) -> SubmissionIn:
    """A posted submission, its shape checked. Raises Invalid with every flaw."""
    return read_json(SubmissionIn, body)


def offer_document(posted: SubmissionIn) -> Document:
    """The canonical document of a posted submission (the bytes of its files are not in it)."""
    return Document(
        procedure=posted.procedure,
        facts={
            name: f"{value.type}:{value.code}" if isinstance(value, PlaceIn) else value
            for name, value in posted.facts.items()
        },
        applicant=None if posted.applicant is None else posted.applicant.model_dump(exclude_none=True),
        content=posted.content,
        files=tuple(
            OfferedFile(
                number=number,
                name=file.name,
                type=file.type,
                media_type=file.media_type,
                size=file.size,
                sha256=file.sha256,
                recipients=None if file.recipients is None else tuple(file.recipients),
            )
            for number, file in enumerate(posted.attachments, start=1)
        ),
    )
