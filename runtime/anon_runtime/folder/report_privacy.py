"""The sections of a report's page that say what the figures mean for privacy, and what they cannot say.

The questions are those of the Article 29 Working Party, Opinion 05/2014 on Anonymisation Techniques (WP216), section 3:
can a person be singled out, can records be linked, and can something be inferred about a person?
"""

from .markup import Html, count, listing, paragraph, section, share, table
from .tally import Report

DOCS = "the pages privacy.md and evaluation.md of anon-engines' documentation"


def section_promise(report: Report) -> Html:
    """Return the section about what the pictures hold, which depends on the mode of the run."""
    if report.settings.get("mode") != "in-place":
        whose = "a face of its photo" if report.settings.get("mode") == "faces" else "the biggest face of its photo"
        return section(
            "What the pictures hold",
            paragraph(
                f"Each picture is a portrait that was painted from words about {whose} and from a seed. No pixel of a",
                "photo is in it.",
            ),
        )
    rows = [(text, report.faces[name]) for name, text in BECAME.items() if report.faces[name] or name == "replaced"]
    metadata = ", ".join(report.settings.get("keep_metadata") or ())
    return section(
        "What the pictures hold",
        paragraph(
            "Each picture is a photo in which every face that was found was replaced, or filled if it was too small.",
            "No pixel of the region of such a face is in it. All other pixels are those of the photo. A photo in which",
            "this was not possible gave no picture. On this page, such a picture is called a portrait, and the face in",
            "it that is most similar to its original counts.",
            "Faces in boxes that somebody has given were replaced, and no others."
            if report.settings.get("only_box")
            else "",
        ),
        table("Faces in released pictures", ["what became of the face", "faces"], rows),
        paragraph(_looked_again(report), f"Of the photos' metadata, this was kept: {metadata}." if metadata else ""),
    )


BECAME = {
    "replaced": "It was replaced by the face of a person who does not exist.",
    "filled": "It was too small to be painted, and was filled with the colours around it.",
    "kept": "It stayed as it was, because its person agreed to it or because it was not to be replaced.",
}


def _looked_again(report: Report) -> str:
    if report.summary is None or report.summary.guard.mode == "off":
        return "No finished picture was looked at once more, because the guard was off."
    if "second_face_detector" in report.summary.engines.files:
        return "Two face detectors looked at each finished picture once more."
    return (
        "The face detector looked at each finished picture once more. The bundle has no second one, which may see what"
        " the first one misses."
    )


def section_opinion(report: Report) -> Html:
    """Return the section about the questions of WP216."""
    rows = [
        (
            "Singling out: can a person be picked out?",
            _singling(report),
            "How many people a stranger would find with other knowledge, for example with a photo that was not in this"
            " run, or with what is known about the group.",
        ),
        (
            "Linkability: can records of one person be linked?",
            _linking(report),
            "Whether another network links a portrait with its photo, and whether the portraits can be linked with"
            " other data that you release beside them.",
        ),
        (
            "Inference: can something be learnt about a person?",
            _inferring(report),
            "What can be concluded from a group about its members. Attributes were read by a network and may be wrong:"
            " a wrong conclusion can harm a person, too.",
        ),
    ]
    return section(
        "The three questions of WP216",
        paragraph(
            "The Article 29 Working Party asks three questions about anonymized data (Opinion 05/2014, WP216). The",
            "figures of this run answer them only in part. They are measurements and no proof.",
        ),
        table("The questions, and this run", ["question", "what this run's figures say", "what they cannot say"], rows),
    )


def _singling(report: Report) -> str:
    measured = sum(report.released_similarity)
    texts = []
    if measured:
        texts.append(
            f"{share(report.first, measured)} measured portraits resemble nobody more than their own original."
        )
    words = report.summary.words if report.summary else None
    if words is not None:
        texts.append(f"{share(words.alone, words.people)} portraits have words that fit one person of the run only.")
    return " ".join(texts) or "Nothing was measured."


def _linking(report: Report) -> str:
    texts = []
    if "rename" in report.settings:
        if report.settings["rename"] == "hash":
            texts.append("Portraits have pseudonyms, which link them with photos only for whoever has the seed.")
        else:
            texts.append("Portraits have the names of their photos. Whoever has both can link them by name.")
    if report.beyond is not None:
        texts.append(f"{share(report.beyond, sum(report.released_similarity))} measured portraits are past a limit.")
    alike = report.summary.alike if report.summary else None
    if alike is not None and alike.pairs is not None:
        texts.append(f"{count(alike.pairs, 'pair', 'pairs')} of portraits are alike.")
    return " ".join(texts) or "Nothing was measured."


def _inferring(report: Report) -> str:
    kept = "Ethnicity, sex, age and other attributes are kept on purpose, and can be read from each portrait."
    words = report.summary.words if report.summary else None
    if words is None:
        return kept
    few = share(words.fewer_than_five, words.people)
    return f"{kept} {few} portraits have words that fit fewer than five people of the run."


def section_attacker(report: Report) -> Html:
    """Return the section about the attacker."""
    network = report.summary.guard.network if report.summary else None
    guard = f"the guard's ({network})" if network else "the guard's"
    return section(
        "What was assumed about the attacker",
        listing(
            [
                "The attacker has all released portraits and photos of the people who may be in them, and compares"
                " them with a face-recognition network.",
                "The attacker does not have the seed.",
                f"The attacker may use another network than {guard}. It may find people whom the guard does not find."
                f" Measurements with another network are in {DOCS}.",
                "The generator may remember people whom it was trained on. Only those who were compared in this run"
                " are checked: the originals, and the gallery if there is one.",
            ]
        ),
    )


def section_uncovered(report: Report) -> Html:
    """Return the section about what is not covered."""
    in_place = report.settings.get("mode") == "in-place"
    left = (
        "Everything but faces is kept: bodies, hair outside of the regions, clothes, tattoos, places, text. All of it"
        " may say who somebody is."
        if in_place
        else "Clothes, background and text of a photo are not copied, because only words and a seed reach a portrait."
    )
    return section(
        "What is not covered",
        paragraph(left, "The following is not covered:"),
        listing(
            [
                "Faces that no detector found: they stay in the pictures as they are."
                if in_place
                else "Faces that were not found, and other people in the same photo: they are neither described nor"
                " compared, and portraits may resemble them.",
                "The names of files and the structure of folders, unless they are hidden (setting rename). They can"
                " say who a person is.",
                "The originals, their metadata, and copies of them in other places. No photo is deleted.",
                "Other files in the output folder. The journal holds the names of photos unless they are hidden.",
            ]
        ),
    )


def section_seed(report: Report) -> Html:
    """Return the section about the seed."""
    named = report.settings.get("rename") == "none"
    return section(
        "How the seed has to be kept",
        paragraph(
            "Whoever has the seed of the run and a photo can compute the pseudonym and the seed of its portrait, and",
            "find the portrait by them. Keep the seed secret and apart from the portraits, with access for few people.",
            "For whoever has the seed and the photos, the portraits are pseudonymous and not anonymous. Destroy the",
            "seed when the run need not be continued.",
            "In this run names are not hidden, so that the names link portraits and photos even without the seed."
            if named
            else "",
        ),
        paragraph(
            "The journal holds the seed of each portrait. Whoever has the journal, the engines and a photo can paint",
            "portraits of the photo with each of these seeds, and compare. Keep the journal as you keep the seed.",
        ),
    )
