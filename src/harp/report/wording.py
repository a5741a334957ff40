"""Numbers and names as people read them. A missing value is an en dash, never a guess."""

from harp.recipes import OWN_METHODS

MISSING = "–"
THIN = "\u202f"  # narrow no-break space: between a number and its unit

NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


def percent(fraction: float | None) -> str:
    """0.7154 is "71.5 %"."""
    return MISSING if fraction is None else f"{100 * fraction:.1f}{THIN}%"


def whole_percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}{THIN}%"


def share(fraction: float) -> str:
    """A kept fraction to three digits: 0.0100062 is "1 %", 0.00123 is "0.123 %"."""
    return f"{100 * fraction:.3g}{THIN}%"


def points(difference: float) -> str:
    """A difference of accuracies in percentage points, always signed: "−6.7", "+0.4", "±0.0"."""
    rounded = round(100 * difference, 1)
    sign = "±" if rounded == 0 else "+" if rounded > 0 else "\u2212"
    return f"{sign}{abs(rounded):.1f}"


def interval(low: float, high: float) -> str:
    """0.694 and 0.736 are "69.4–73.6"."""
    return f"{100 * low:.1f}–{100 * high:.1f}"


def count(number: int | None) -> str:
    return MISSING if number is None else f"{number:,}"


def plural(number: int, one: str, many: str) -> str:
    """Words below ten: "one network", "12 networks"."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[number] if number < len(words) else count(number)} {one if number == 1 else many}"


def eps_text(eps: float | None) -> str:
    """Eps as it is usually written: a short decimal such as 0.1 when it is one, then k/255, then four digits."""
    if eps is None:
        return MISSING
    if eps == float(f"{eps:.2g}"):
        return f"{eps:.2g}"
    level = round(eps * 255, 2)
    if 0 < level <= 255 and abs(eps * 255 - level) < 1e-3 and level == round(level):
        return f"{int(level)}/255"
    return f"{eps:.4g}"


def eps_from_text(text: str) -> str:
    """The eps an examples file carries as text, in the spelling of the rest of the page."""
    try:
        return eps_text(float(text))
    except ValueError:
        return text


def threat_text(norm: str | None, eps: float | None) -> str:
    """Norm and radius, "ℓ∞ 8/255"; empty for clean images."""
    return f"{NORMS.get(norm, norm)} {eps_text(eps)}" if norm is not None and eps is not None else ""


def method_name(method: str | None) -> str:
    """With its plug-ins, as people write it: "HARP+AWP" for "harp+awp"."""
    if method is None:
        return "dense"
    first, *plug_ins = method.split("+")
    return "+".join([OWN_METHODS[first].label if first in OWN_METHODS else first, *map(str.upper, plug_ins)])


def duration(elapsed_s: float | None) -> str:
    """Such as "42 s", "3 min 20 s", "2 h 05 min"."""
    if elapsed_s is None:
        return MISSING
    minutes, seconds = divmod(round(elapsed_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
