from collections import Counter

from sf_tui.tasks.biography.language import LISTS


def test_lists_are_long_enough_for_the_experiment() -> None:
    sizes = {name: len(words) for name, words in LISTS.items()}

    assert sizes["first names"] >= 120
    assert sizes["middle names"] >= 120
    assert sizes["surnames"] >= 160
    assert [sizes[name] for name in ("months", "days", "years")] == [12, 28, 60]
    assert [sizes[name] for name in ("cities", "universities", "majors", "companies")] == [
        80,
        80,
        60,
        80,
    ]


def test_every_entry_is_one_plain_word_and_in_one_list_only() -> None:
    words = Counter(word for entries in LISTS.values() for word in entries)

    assert [word for word, times in words.items() if times > 1] == []
    assert [word for word in words if not (word.isascii() and word.isalnum())] == []
