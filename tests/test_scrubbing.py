"""Scrubbing: what identifies a person goes; help, and what merely looks like a name, stays.

All names and numbers are invented.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.prompts.scrubbing import Scrubber

SCRUBBER = Scrubber()

SIGNED = (
    "I hope this helps.Warmly,Dr. Tamsin Oyelaran-Whitfield, Ph.D., LMFT #48213\nNew Dawn Counseling, LLC\n"
    "123 Main Street, Suite 4, Springfield, IL 62704\n(202) 555-0143 | tamsin@example.org | www.example.com/about"
)


def scrubbed(text: str) -> str:
    return SCRUBBER.scrub(text)[0]


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in SCRUBBER.scrub(text)[1]]


def test_a_whole_signature_becomes_placeholders_of_the_right_kinds():
    assert scrubbed(SIGNED) == (
        "I hope this helps.Warmly,Dr. [NAME_1], [CREDENTIAL_1] #[ID_1]\n[ORGANISATION_1]\n[ADDRESS_1]\n"
        "[PHONE_1] | [EMAIL_1] | [URL_1]"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is Xochitl and I am 24.", "My name is [NAME_1] and I am 24."),
        ("my name is sarah and my husband john left", "my name is [NAME_1] and my husband [NAME_2] left"),
        ("my boyfriend Vithesh won't talk", "my boyfriend [NAME_1] won't talk"),
        ("My daughter Grace and my sister Hope left.", "My daughter [NAME_1] and my sister [NAME_2] left."),
        ("I saw Dr. Ng and Mrs. O'Brien.", "I saw Dr. [NAME_1] and Mrs. [NAME_2]."),
        ("I was hurt by Uncle Bob.", "I was hurt by Uncle [NAME_1]."),
        ("As Sherry Quill said, rest.", "As [NAME_1] said, rest."),
        ("Be well.Robin J. Quill, DBH, LPCC", "Be well.[NAME_1], [CREDENTIAL_1]"),
        ("more informationLaura Quill, LMSW, LMAC", "more information[NAME_1], [CREDENTIAL_1]"),
        ("It passes. ~Mark (www.example.com)", "It passes. ~[NAME_1] ([URL_1])"),
        ("Take care, J. Quillfeather", "Take care, [NAME_1]"),
        ("Best,\nXiomara Quispe-Huanca", "Best,\n[NAME_1]"),
        ("Speak softly.Kindly-keith quill M.A.", "Speak softly.Kindly-[NAME_1] [CREDENTIAL_1]"),
        ("Ask Ann Quill, LMFT. She knows.", "Ask [NAME_1], [CREDENTIAL_1]. She knows."),
        ("Hi Grace, I hear you.", "Hi [NAME_1], I hear you."),
        ("I met Earl Lewis there.", "I met [NAME_1] there."),
        ("That is my view. Stephanie C, MA, LADC", "That is my view. [NAME_1], [CREDENTIAL_1]"),
        ("Ask for Jim Quill PhDLicensed Professional Counselor", "Ask for [NAME_1] [CREDENTIAL_1]"),
    ],
)
def test_a_name_is_found_by_where_it_stands(text: str, expected: str):
    assert scrubbed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann.lee@example.org.Thanks", "Write to [EMAIL_1].Thanks"),
        ("Write to ann (at) example (dot) org", "Write to [EMAIL_1]"),
        ("See www.example.comThen call.", "See [URL_1]Then call."),
        ("See https://example.org/calm/Then rest", "See [URL_1]Then rest"),
        ("See https://example.org/Quill for more", "See [URL_1] for more"),
        ("See https://example.org/good-therapistLaura Quill, LMSW", "See [URL_1][NAME_1], [CREDENTIAL_1]"),
        ("See example.net, it helps", "See [URL_1], it helps"),
        ("I post as @quiet_ann on weekends", "I post as [HANDLE_1] on weekends"),
        ("Call 202.555.0112 or 555-0143", "Call [PHONE_1] or [PHONE_2]"),
        ("Ring +44 20 7946 0958", "Ring [PHONE_1]"),
        ("I live at 42 Elm St. now", "I live at [ADDRESS_1] now"),
        ("Write to P.O. Box 12, Springfield, IL 62704", "Write to [ADDRESS_1]"),
        ("I moved to Springfield, IL 62704 then", "I moved to [ADDRESS_1] then"),
        ("My SSN is 078-05-1120", "My SSN is [ID_1]"),
        ("my license number is LCS12345", "my license number is [ID_1]"),
        ("I was born on March 4, 1985", "I was born on [BIRTHDATE_1]"),
        ("DOB 03/04/1985", "DOB [BIRTHDATE_1]"),
        ("in my book, Finding Your Inner Light, I say", "in my book, [TITLE_1], I say"),
        ("I work at Bright Path Counseling", "I work at [ORGANISATION_1]"),
    ],
)
def test_what_reaches_or_locates_a_person_becomes_a_placeholder(text: str, expected: str):
    assert scrubbed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Call 988, 911, or 1-800-273-8255 (TALK), or text HOME to 741741.",
        "The number is 1-800-4-A-CHILD (1-800-422-4453).",
        "Call your local crisis line at 503-555-0199.",
        "There is a hotline to help with this: 888-555-0123, day and night.",
        "Go to https://www.suicidepreventionlifeline.org/ or www.rainn.org or https://www.nimh.nih.gov/health.",
        "In the UK ring 0800 1111 or 116 123.",
    ],
)
def test_help_in_a_crisis_is_care_and_stays(text: str):
    assert scrubbed(text) == text


def test_a_writers_own_number_goes_even_beside_a_crisis_line():
    assert scrubbed("Call the crisis line at 988 or my office 503-555-0198.") == (
        "Call the crisis line at 988 or my office [PHONE_1]."
    )


@pytest.mark.parametrize(
    "text",
    [
        "Will this ever end? Hope is gone. May I ask? Grace period. Mark my words. I have Faith.",
        "Try EMDR, Gestalt therapy, the Gottman method or Cognitive Behavioral Therapy.",
        "Emotionally Focused Therapy by Sue Johnson, and Man's Search for Meaning by Viktor Frankl.",
        'Read "Calm Days" by Ellen Quill and Laura Feather.',
        "I am Muslim and my wife is Christian. My mom Is a nurse. My friend When I was 5 hit me.",
        "See a therapist (LMFT, LPC, PhD). I'm a Licensed Professional Counselor in Texas.",
        "I was born in Paris, Texas in May and lived in San Jose, Puerto Rico, Boston, MA and Jackson, MS.",
        "Namaste. Peace, love. Thank You. Good Luck! Best Wishes.",
        "It was for you.Then I left.It hurt me.So I cried. I.e. the end.",
        "She is 5'4, weighs 120-130, since 2010-2015, on 12/12/2012, 1,000,000 at 10:30-11:30, $5,000.00",
        "In my practice, Cognitive Behavioral Therapy and Family Therapy help.",
        "Watch some Ted Talks, join your Girl Scout troop, ask Mr. Right.",
        "My mother has Alzheimer's disease and my son is 16, 5 ft 10.",
    ],
)
def test_innocent_words_stay(text: str):
    assert scrubbed(text) == text


def test_one_person_has_one_placeholder_by_full_first_or_last_name():
    assert scrubbed("My husband John Quill left. John is kind. I told Mr. Quill. My son Ted stayed with John.") == (
        "My husband [NAME_1] left. [NAME_1] is kind. I told Mr. [NAME_1]. My son [NAME_2] stayed with [NAME_1]."
    )


def test_a_first_name_met_before_the_full_name_is_the_same_person():
    assert scrubbed("My wife Maria left. Maria Quill is her name.") == "My wife [NAME_1] left. [NAME_1] is her name."


def test_two_people_with_the_same_last_name_are_two():
    assert scrubbed("Anna Quill met Peter Quill.") == "[NAME_1] met [NAME_2]."


def test_a_number_written_in_two_ways_is_one_number():
    assert scrubbed("Call 202-555-0143, that is (202) 555-0143.") == "Call [PHONE_1], that is [PHONE_1]."


def test_responses_share_the_mapping_of_their_prompt():
    known: dict[tuple[str, str], str] = {}
    prompt, _ = SCRUBBER.scrub("My husband Will drinks. My friend Vithesh knows.", known)
    response, _ = SCRUBBER.scrub("Does Will know that you asked Vithesh? - Anna", known)
    assert prompt == "My husband [NAME_1] drinks. My friend [NAME_2] knows."
    assert response == "Does [NAME_1] know that you asked [NAME_2]? - [NAME_3]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My husband Will drinks. Will he stop?", "My husband [NAME_1] drinks. Will he stop?"),
        ("My daughter Hope left. Hope is what I need.", "My daughter [NAME_1] left. Hope is what I need."),
    ],
)
def test_a_known_name_that_is_a_word_is_left_where_a_sentence_may_open_with_the_word(text: str, expected: str):
    assert scrubbed(text) == expected


def test_a_writers_own_title_is_known_again():
    assert scrubbed("In my book, Calm Days Ahead, I say so. Calm Days Ahead helps.") == (
        "In my book, [TITLE_1], I say so. [TITLE_1] helps."
    )


def test_documents_do_not_share_anything_by_themselves():
    assert scrubbed("My friend Vithesh left.") == "My friend [NAME_1] left."
    assert scrubbed("I asked Vithesh.") == "I asked Vithesh."


def test_numbering_goes_on_after_placeholders_that_the_text_brings():
    assert scrubbed("[NAME_2] left. My son Tom stayed.") == "[NAME_2] left. My son [NAME_3] stayed."


def test_findings_give_places_in_the_original_and_rebuild_the_result():
    result, findings = SCRUBBER.scrub(SIGNED)
    rebuilt, at = "", 0
    for finding in findings:
        assert SIGNED[finding.start : finding.end] == finding.text
        rebuilt += SIGNED[at : finding.start] + finding.placeholder
        at = finding.end
    assert rebuilt + SIGNED[at:] == result
    assert [finding.kind for finding in findings] == (
        ["NAME", "CREDENTIAL", "ID", "ORGANISATION", "ADDRESS", "PHONE", "EMAIL", "URL"]
    )


PIECES = [
    "my husband John ",
    "Dr. Ann Quill, ",
    "LMFT",
    "Best,",
    "\n",
    "- Mark",
    ". ",
    "Will ",
    "www.example.org",
    "Hope ",
    "202-555-0143",
    "ann@example.org",
    "my practice ",
    "Bright Path Counseling",
    " at ",
    "12 Elm Street",
    "[NAME_1]",
    "PhD",
    "my book, Calm Days Ahead",
    "Then",
    "Springfield, IL 62704",
    " (",
    ") ",
    "@ann_q ",
    "1-800-273-8255",
    "is ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_scrubbing_again_changes_nothing(text: str):
    known: dict[tuple[str, str], str] = {}
    once, _ = SCRUBBER.scrub(text, known)
    assert SCRUBBER.scrub(once) == (once, [])
    assert SCRUBBER.scrub(once, known) == (once, [])


@given(st.text(max_size=200))
def test_any_text_is_taken_and_only_findings_change_it(text: str):
    result, findings = SCRUBBER.scrub(text)
    assert (result == text) == (not findings)


def test_a_new_scrubber_gives_the_same_result_and_version():
    other = Scrubber()
    assert (other.scrub(SIGNED), other.version) == (SCRUBBER.scrub(SIGNED), SCRUBBER.version)


def test_the_version_is_a_short_digest():
    assert re.fullmatch(r"[0-9a-f]{12}", SCRUBBER.version)


def test_a_text_of_nothing_has_no_findings():
    assert SCRUBBER.scrub("") == ("", [])
    assert kinds("I feel sad and I do not know why.") == []


@pytest.mark.parametrize("number", ["01632 960142", "07700 900142", "020 7946 0142", "0131-496-0178"])
def test_a_number_with_a_trunk_zero_is_a_phone_whether_or_not_it_is_in_service(number: str):
    assert Scrubber().scrub(f"Or ring {number}, evenings.")[0] == "Or ring [PHONE_1], evenings."


@pytest.mark.parametrize("innocent", ["on 03-11-2024", "a score of 0.123456789", "item 0001234"])
def test_a_number_that_only_starts_with_zero_is_no_phone(innocent: str):
    assert "[PHONE" not in Scrubber().scrub(f"It was {innocent} then.")[0]
