"""How facts are told and how they are asked for.

Knows the sentences of a biography entry and the two forms of a question. `{name}` and `{value}`
stand for a full name and an attribute's value; the value always comes after the name, as in the
paper's data. Knows nothing of people, seeds or tokenizers.

In form `same` every task is asked about in the same words. In form `other` the new questions
share no word and no punctuation mark with the old task's, so that whatever they break was not
broken through the words of the prompt.
"""

from __future__ import annotations

from typing import Literal

Form = Literal["same", "other"]

FORMS: tuple[Form, ...] = ("same", "other")

ATTRIBUTES: tuple[str, ...] = (
    "birthday",
    "birth city",
    "university",
    "major",
    "company",
    "company city",
)

# Short on purpose: an entry of six sentences has about 56 tokens, and pretraining costs
# 160,000 entries.
SENTENCES: dict[str, tuple[str, ...]] = {
    "birthday": (
        "{name} was born on {value}.",
        "{name} came into the world on {value}.",
        "{name} celebrates a birthday on {value}.",
        "The birth of {name} fell on {value}.",
        "The birthdate of {name} is {value}.",
        "{name} has been alive since {value}.",
        "{name} drew a first breath on {value}.",
        "The life of {name} began on {value}.",
        "{name} first saw daylight on {value}.",
        "Records date the birth of {name} to {value}.",
        "The parents of {name} welcomed their baby on {value}.",
        "{name} entered this life on {value}.",
        "{name} counts birthdays from {value}.",
        "The midwife delivered {name} on {value}.",
        "{name} was a newborn on {value}.",
        "A certificate says {name} arrived on {value}.",
        "{name} turned zero on {value}.",
        "The passport of {name} gives the date {value}.",
        "Friends toast {name} each year for {value}.",
        "{name} dates from {value}.",
    ),
    "birth city": (
        "{name} was born in {value}.",
        "{name} is a native of {value}.",
        "{name} hails from {value}.",
        "{name} came into the world in {value}.",
        "The birthplace of {name} is {value}.",
        "{name} spent the first days in {value}.",
        "{name} originally comes from {value}.",
        "{name} has roots in {value}.",
        "The hometown of {name} is {value}.",
        "The cradle of {name} stood in {value}.",
        "The life of {name} began in {value}.",
        "{name} drew a first breath in {value}.",
        "{name} first saw daylight in {value}.",
        "The parents of {name} then lived in {value}.",
        "The midwife delivered {name} in {value}.",
        "{name} is a child of {value}.",
        "The family of {name} was at home in {value}.",
        "{name} entered this life in {value}.",
        "Records place the birth of {name} in {value}.",
        "The passport of {name} names the town {value}.",
    ),
    "university": (
        "{name} studied at {value}.",
        "{name} graduated from {value}.",
        "{name} attended {value}.",
        "{name} earned a degree from {value}.",
        "{name} was a student at {value}.",
        "{name} took classes at {value}.",
        "The education of {name} took place at {value}.",
        "{name} holds a diploma from {value}.",
        "The alma mater of {name} is {value}.",
        "{name} enrolled at {value}.",
        "The professors of {name} taught at {value}.",
        "{name} learned the trade at {value}.",
        "{name} sat exams at {value}.",
        "The college years of {name} passed at {value}.",
        "{name} was admitted to {value}.",
        "{name} is an alumnus of {value}.",
        "{name} wrote a thesis at {value}.",
        "{name} heard lectures at {value}.",
        "The campus of {name} was {value}.",
        "{name} finished college at {value}.",
    ),
    "major": (
        "{name} majored in {value}.",
        "{name} specialized in {value}.",
        "{name} earned a degree in {value}.",
        "{name} focused on {value}.",
        "{name} has a background in {value}.",
        "The field of {name} is {value}.",
        "{name} holds a diploma in {value}.",
        "{name} completed a program in {value}.",
        "{name} took classes in {value}.",
        "The thesis of {name} was about {value}.",
        "{name} devoted the college years to {value}.",
        "{name} is trained in {value}.",
        "{name} passed exams in {value}.",
        "The chosen subject of {name} was {value}.",
        "{name} heard lectures on {value}.",
        "{name} read books about {value}.",
        "{name} has a passion for {value}.",
        "{name} pursued studies of {value}.",
        "The professors taught {name} all about {value}.",
        "{name} is an expert in {value}.",
    ),
    "company": (
        "{name} works for {value}.",
        "{name} is employed by {value}.",
        "{name} has a job with {value}.",
        "{name} joined {value}.",
        "{name} is on the payroll of {value}.",
        "The employer of {name} is {value}.",
        "{name} was hired by {value}.",
        "{name} built a career at {value}.",
        "{name} gets a salary from {value}.",
        "{name} is on the staff of {value}.",
        "{name} signed a contract with {value}.",
        "The boss of {name} runs {value}.",
        "{name} serves customers of {value}.",
        "{name} develops products for {value}.",
        "{name} found employment at {value}.",
        "The business card of {name} says {value}.",
        "{name} leads a team at {value}.",
        "{name} spends the workdays with {value}.",
        "The colleagues of {name} are with {value}.",
        "{name} took a position at {value}.",
    ),
    "company city": (
        "{name} works in {value}.",
        "{name} has an office in {value}.",
        "{name} commutes to {value}.",
        "{name} goes to work in {value}.",
        "{name} has a job in {value}.",
        "{name} built a career in {value}.",
        "The office of {name} is in {value}.",
        "{name} is employed in {value}.",
        "{name} earns a living in {value}.",
        "The desk of {name} stands in {value}.",
        "{name} found employment in {value}.",
        "The working life of {name} happens in {value}.",
        "{name} leads a team in {value}.",
        "{name} spends the workdays in {value}.",
        "The boss of {name} sits in {value}.",
        "The colleagues of {name} meet in {value}.",
        "{name} took a position in {value}.",
        "The employer of {name} is based in {value}.",
        "Business brings {name} to {value}.",
        "{name} is on duty in {value}.",
    ),
}

# One word an attribute, so that all questions of a form have the same length and differ in it
# alone. The forms share no word; both end in the colon after which the answer comes, as every
# prompt of a model ends in its one format.
_ASKED_SAME = ("birthday", "birthplace", "university", "major", "company", "workplace")
_ASKED_OTHER = ("birthdate", "origin", "college", "subject", "employer", "office")

QUESTIONS: dict[Form, dict[str, str]] = {
    "same": {
        attribute: f"Question: {word} of {{name}}? Answer:"
        for attribute, word in zip(ATTRIBUTES, _ASKED_SAME, strict=True)
    },
    "other": {
        attribute: f"Recall {{name}}, {word}:"
        for attribute, word in zip(ATTRIBUTES, _ASKED_OTHER, strict=True)
    },
}
