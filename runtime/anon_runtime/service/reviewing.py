"""The routes of a review: portraits of an output folder, and what a person decides about them."""

from pathlib import PurePath
from typing import Annotated, Any, Self

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..folder.decisions import Verdict
from ..folder.review import Review, State
from ..folder.writer import FORMATS
from .forms import MEDIA_TYPES

PSEUDONYM, DIGEST = r"^[0-9a-f]{32}$", r"^[0-9a-f]{64}$"
MOST = 100
# A line of the journal and of the page.
Line = StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")


class DecisionForm(BaseModel):
    """A decision about a portrait."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=PSEUDONYM, description="The pseudonym of the photo.")]
    sha256: Annotated[str, Field(pattern=DIGEST, description="Of the portrait that the person has seen.")]
    verdict: Annotated[Verdict, Field(description="Portraits that are not accepted are removed.")]
    by: Annotated[str, Line, Field(min_length=1, description="Who has decided.", examples=["Ada"])]
    state: Annotated[State, Field(description="What the person has seen that was decided before.")] = "open"
    reason: Annotated[str, Line, Field(description="Why; only an acceptance needs none.")] = ""

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if not self.reason and self.verdict != "accept":
            raise ValueError(f"{self.verdict} needs a reason")
        return self


def make_router(review: Review, problems: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Return the routes.

    Args:
        review: the review.
        problems: what the OpenAPI document says about errors, by status.
    """
    router = APIRouter(prefix="/v1/review", responses={status: problems[status] for status in (400, 422)})

    @router.get("", summary="Portraits of the folder; those that are most similar to their originals come first")
    def portraits(
        state: Annotated[State, Query(description="What was decided about them.")] = "open",
        start: Annotated[int, Query(ge=0, le=10**9, description="How many to pass over.")] = 0,
        count: Annotated[int, Query(ge=1, le=MOST, description="How many to return, at most.")] = 20,
    ) -> dict[str, Any]:
        review.refresh()
        found = [one.to_dict() for one in review.page(state, start, count)]
        return {"folder": review.out.name, "counts": review.counts(), "limit": review.limit, "portraits": found}

    @router.get(
        "/portraits/{id}",
        summary="The file of a portrait, if it is what the run has written",
        response_class=Response,
        responses={200: {"content": {media: {} for media in MEDIA_TYPES.values()}}, 404: problems[404]},
    )
    def portrait(id: Annotated[str, Path(pattern=PSEUDONYM)]) -> Response:
        if (found := review.image(id)) is None:
            raise HTTPException(404, "the portrait is not there, or is not what the run has written")
        kind = FORMATS.get(PurePath(found[0].output).suffix.lower(), "png")
        return Response(found[1], media_type=MEDIA_TYPES[kind])

    @router.post("/decisions", summary="Decide about a portrait", responses={409: problems[409]})
    def decide(form: DecisionForm) -> dict[str, Any]:
        values = form.model_dump(exclude={"id"})
        return review.decide(form.id, **values).to_dict()

    return router
