"""How the objects of :class:`itmatch.data.RelationScenes` look: a head for each category, drawn in a square of 100."""

from __future__ import annotations

from itmatch.data.relation_scenes.grammar import CATEGORIES, COLOURS

PAINTS = dict(
    zip(
        COLOURS,
        ("#d8433b", "#3f74c9", "#3d9a50", "#efc53b", "#f7f5ef", "#3b3b3f", "#94633a", "#ec8fb6"),
        strict=True,
    )
)
_INK = "#1f1f24"

_HEADS = {
    "round": '<circle cx="50" cy="56" r="38"/>',
    "long": '<ellipse cx="50" cy="57" rx="29" ry="40"/>',
    "wide": '<ellipse cx="50" cy="60" rx="44" ry="33"/>',
    "square": '<rect x="16" y="24" width="68" height="68" rx="8"/>',
    "wool": '<path d="M50 18c12-8 24 0 24 10 12 0 18 14 10 24 8 12 0 26-12 26-2 12-16 16-22 8-6 8-20 4-22-8'
    '-12 0-20-14-12-26-8-10-2-24 10-24 0-10 12-18 24-10z"/>',
    "mane": '<path d="M50 8l10 10 15-6 3 15 15 3-4 14 11 12-11 10 4 14-15 3-3 15-15-5-10 11-10-11-15 5-3-15-15-3 '
    '4-14-11-10 11-12-4-14 15-3 3-15 15 6z"/>',
}
_TOPS = {  # behind the head
    "": "",
    "floppy": '<path d="M20 28c-16 4-20 34-10 44 12-2 18-20 18-36zM80 28c16 4 20 34 10 44-12-2-18-20-18-36z"/>',
    "pointed": '<path d="M14 50L16 6l30 20zM86 50L84 6 54 26z"/>',
    "tall": '<ellipse cx="34" cy="22" rx="9" ry="22"/><ellipse cx="66" cy="22" rx="9" ry="22"/>',
    "round": '<circle cx="20" cy="24" r="16"/><circle cx="80" cy="24" r="16"/>',
    "side": '<circle cx="9" cy="56" r="13"/><circle cx="91" cy="56" r="13"/>',
    "horns": '<path d="M28 32C10 30 4 16 10 4c4 12 12 16 26 18zM72 32C90 30 96 16 90 4c-4 12-12 16-26 18z"/>',
    "pricked": '<path d="M26 34L28 2l18 20zM74 34L72 2 54 22z"/>',
    "bulging": '<circle cx="28" cy="28" r="16"/><circle cx="72" cy="28" r="16"/>',
    "antenna": '<path d="M48 4h4v22h-4z"/><circle cx="50" cy="7" r="6"/>',
    "hair": '<path d="M12 96V50C12 4 88 4 88 50v46H70V40H30v56z"/>',
    "curls": '<circle cx="12" cy="44" r="15"/><circle cx="88" cy="44" r="15"/><circle cx="22" cy="24" r="12"/>'
    '<circle cx="78" cy="24" r="12"/>',
}
_FRONTS = {  # before the head; "F" is filled with the second tone
    "smile": '<path d="M32 72q18 16 36 0" fill="none"/>',
    "nose": '<path d="M43 64h14l-7 9z" fill="INK"/><path d="M50 73v6M50 79q-8 7-14 2M50 79q8 7 14 2" fill="none"/>',
    "muzzle": '<ellipse cx="50" cy="75" rx="18" ry="14" fill="TONE"/><path d="M43 69h14l-7 8z" fill="INK"/>',
    "nostrils": '<ellipse cx="50" cy="78" rx="22" ry="13" fill="TONE"/><circle cx="42" cy="78" r="4" fill="INK"/>'
    '<circle cx="58" cy="78" r="4" fill="INK"/>',
    "beak": '<path d="M28 66q22-12 44 0-22 20-44 0z" fill="#f0a030"/>',
    "pointed beak": '<path d="M38 62h24L50 92z" fill="#f0a030"/>',
    "wide mouth": '<path d="M20 66q30 26 60 0" fill="none"/>',
    "whiskers": '<path d="M43 64h14l-7 8z" fill="INK"/><path d="M14 62l22 6M14 76l22-4M86 62l-22 6M86 76l-22-4"/>',
    "stripes": '<path d="M43 66h14l-7 9z" fill="INK"/><path d="M50 20v18M36 24l4 14M64 24l-4 14M13 56l14 4M13 68l14 0'
    'M87 56l-14 4M87 68l-14 0"/>',
    "face": '<ellipse cx="50" cy="60" rx="26" ry="28" fill="TONE"/><path d="M40 76q10 8 20 0" fill="none"/>',
    "fringe": '<path d="M14 46C18 8 82 8 86 46 66 26 34 26 14 46z" fill="INK"/><path d="M34 74q16 14 32 0" '
    'fill="none"/>',
    "beard": '<path d="M20 62q30 60 60 0-14 6-30 6t-30-6z" fill="TONE"/><path d="M40 74h20"/>',
    "hat": '<path d="M4 34h92L52-8z" fill="TONE"/><path d="M30 66q20 56 40 0-20 10-40 0z" fill="#fff"/>',
    "patch": '<path d="M12 42C14 6 86 6 88 42z" fill="INK"/><circle cx="66" cy="52" r="12" fill="INK"/>'
    '<path d="M36 76q14 8 28 0" fill="none"/>',
    "red nose": '<circle cx="50" cy="64" r="9" fill="#e0332c"/><path d="M28 74q22 22 44 0" fill="none"/>',
    "grill": '<path d="M30 74h40v10H30zM40 74v10M50 74v10M60 74v10" fill="TONE"/>',
}
_LOOKS = {  # category: head, what stands behind it, what is before it
    "dog": ("long", "floppy", "muzzle"), "cat": ("round", "pointed", "whiskers"),
    "horse": ("long", "pricked", "muzzle"),
    "cow": ("long", "horns", "nostrils"), "sheep": ("wool", "", "face"), "bear": ("round", "round", "muzzle"),
    "fox": ("wide", "pointed", "nose"), "rabbit": ("wide", "tall", "nose"), "monkey": ("round", "side", "face"),
    "pig": ("round", "pricked", "nostrils"), "duck": ("round", "", "beak"), "goose": ("long", "", "pointed beak"),
    "frog": ("wide", "bulging", "wide mouth"), "mouse": ("long", "round", "whiskers"),
    "tiger": ("round", "round", "stripes"), "lion": ("mane", "", "face"), "boy": ("round", "", "fringe"),
    "girl": ("round", "curls", "smile"), "man": ("long", "", "beard"), "woman": ("long", "hair", "smile"),
    "robot": ("square", "antenna", "grill"), "clown": ("round", "curls", "red nose"), "wizard": ("long", "", "hat"),
    "pirate": ("round", "", "patch"),
}  # fmt: skip
assert tuple(_LOOKS) == CATEGORIES


def figure(category: str, colour: str) -> str:
    """The elements of a head, as SVG in a square of 100; the lines are drawn with the stroke of what is around it.

    Example:
        >>> figure("duck", "yellow").startswith('<g fill="#efc53b">')
        True
    """
    head, top, front = _LOOKS[category]
    dark = colour == "black"
    eyes = '<circle cx="37" cy="52" r="5"/><circle cx="63" cy="52" r="5"/>'
    shown = (_FRONTS[front]).replace("TONE", "#8a8a92" if dark else "#fff8ea").replace("INK", _INK)
    ink = "#cfcfd4" if dark and "face" not in front else _INK
    return (
        f'<g fill="{PAINTS[colour]}">{_TOPS[top]}{_HEADS[head]}</g><g fill="none" stroke="{ink}">{shown}</g>'
        f'<g fill="{ink}" stroke="none">{eyes}</g>'
    )
