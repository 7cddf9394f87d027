"""The questions of the report: headings, limits in words, and the images that they ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question of the form.

    Attributes:
        number: from 1, in the order of the report.
        title: what is asked, as the heading of the answer has it.
        words: fewest and most words of the answer; None where images are the answer.
        images: fewest and most images; None where neither is asked for.
        needs: item of the checklist that the images show; while it is not done, none is required.
        may_not_apply: the answer may instead begin with "Not applicable:" and give the reason.
    """

    number: int
    title: str
    words: tuple[int, int] | None
    images: tuple[int, int] | None = None
    needs: int | None = None
    may_not_apply: bool = False

    @property
    def heading(self) -> str:
        """The heading of the answer, without its marks."""
        return f"{self.number}. {self.title}"


QUESTIONS = (
    Question(1, "Which group wrote this?", None, may_not_apply=True),
    Question(2, "Who belongs to the group?", None, may_not_apply=True),
    Question(3, "Which packages from outside the course helped, and how?", (0, 200)),
    Question(4, "How does a newcomer get exactly our environment?", (100, 200)),
    Question(5, "How is the code organised, and where does it leave the template?", (100, 200)),
    Question(6, "Which rules keep the code readable, and why do they matter?", (100, 200)),
    Question(7, "How many tests are there, and what do they test?", (50, 100)),
    Question(8, "What is the coverage, and would 100 % mean no errors?", (100, 200)),
    Question(9, "Did you work with branches and pull requests?", (100, 200)),
    Question(10, "Did you use DVC, and what did it improve?", (100, 200)),
    Question(11, "What does continuous integration run, and on what?", (200, 300)),
    Question(12, "How is an experiment configured and started?", (50, 100)),
    Question(13, "How is an experiment reproduced, and nothing lost?", (100, 200)),
    Question(14, "Which metrics are tracked, and why those?", (200, 300), (1, 3)),
    Question(15, "Which containers are there, and how are they run?", (100, 200)),
    Question(16, "How do you debug and profile?", (100, 200)),
    Question(17, "Which cloud services are used, and for what?", (50, 200)),
    Question(18, "How is Compute Engine used, and on which machines?", (100, 200)),
    Question(19, "What is in the bucket?", None, (1, 2), needs=30),
    Question(20, "What is in the registry of images?", None, (1, 2), needs=34),
    Question(21, "What does the history of builds look like?", None, (1, 2), needs=34),
    Question(22, "Did you train a model in the cloud?", (100, 200)),
    Question(23, "How is the API built, and what is special about it?", (100, 200)),
    Question(24, "How is it deployed, and how is it called?", (100, 200)),
    Question(25, "How is the API tested, how fast is it, and where does it break?", (100, 200)),
    Question(26, "How is the deployed model monitored?", (100, 200)),
    Question(27, "What did the cloud cost, and what cost most?", (100, 200)),
    Question(28, "Is there anything beyond the course?", (0, 200)),
    Question(29, "What does the whole architecture look like?", (200, 400), (1, 1)),
    Question(30, "What was hard, and how was it overcome?", (200, 400)),
    Question(31, "Who did what, and which AI tools helped?", (50, 300), may_not_apply=True),
)
