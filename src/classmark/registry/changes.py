"""What each change makes of the state of a registry, without touching a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from classmark.errors import BundleNotFound, ChangeRefused, UsageError
from classmark.records import Canary, Channels, Pointer, Registered
from classmark.records.registry import Action, Outcome

SHOWN_DIGITS = 12
_FREED = {
    "champion": "promote another bundle first",
    "challenger": "`classmark registry rollback` ends the canary and keeps the champion",
    "shadow": "`classmark registry shadow --off` ends it",
}
"""How a bundle leaves each channel."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that was checked: the state after it, and what its event says.

    Attributes:
        after: the state, but for ``sequence`` and ``last_event``.
        action, from_digest, to_digest, report, numbers: of the event.
    """

    after: Pointer
    action: Action
    from_digest: str | None = None
    to_digest: str | None = None
    report: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


def add(pointer: Pointer, digest: str, registered: Registered) -> Change:
    """Return the state with a bundle more."""
    counter = registered.counter
    known = replace(registered, sequence=pointer.sequence + 1)
    after = replace(
        pointer,
        bundles={**pointer.bundles, digest: known},
        newest_signed=max(pointer.newest_signed, counter or 0),
    )
    numbers = {"name": known.name, "version": known.version, "seal": known.seal, "counter": counter}
    return Change(after=after, action="add", to_digest=digest, numbers=numbers)


def promote(pointer: Pointer, digest: str, report: str | None, *, forced: bool) -> Change:
    """Return the state with another champion.

    Args:
        pointer: the state before.
        digest: of the new champion.
        report: SHA-256 of the gate report that it passed.
        forced: it is promoted without one.

    Raises:
        BundleNotFound: it is not in the registry.
        ChangeRefused: it is the champion, a canary runs, or it was signed before the champion.
    """
    registered = registered_as(pointer, digest)
    champion = pointer.channels.champion
    if digest == champion:
        raise ChangeRefused(f"{_called(pointer, digest)} is the champion already.")
    _refuse_running_canary(pointer)
    _refuse_older(pointer, registered, champion)
    return Change(
        after=_crowned(pointer, digest),
        action="promote",
        from_digest=champion,
        to_digest=digest,
        report=report,
        numbers={"forced": True} if forced else {},
    )


def roll_back(pointer: Pointer) -> Change:
    """Return the state before the latest step: without the canary, or with the champion before.

    Raises:
        ChangeRefused: there was none before.
    """
    if pointer.canary is not None:
        return end_canary(pointer, "rolled_back", {})
    if not pointer.former:
        raise ChangeRefused(
            "there is no champion to go back to: no earlier one is left. Promote another bundle."
        )
    *former, back = pointer.former
    champion = pointer.channels.champion
    after = replace(_crowned(pointer, back), former=tuple(former))
    return Change(after=after, action="rollback", from_digest=champion, to_digest=back)


def start_canary(pointer: Pointer, canary: Canary) -> Change:
    """Return the state with a canary.

    Raises:
        UsageError: the share is not above 0 to 100 percent.
        BundleNotFound: its candidate is not in the registry.
        ChangeRefused: there is no champion, its candidate is that, or another canary runs.
    """
    if not 0 < canary.percent <= 100:
        raise UsageError(f"a canary takes above 0 to 100 percent, got {canary.percent:g}.")
    registered = registered_as(pointer, canary.candidate)
    champion = pointer.channels.champion
    if champion is None:
        raise ChangeRefused("there is no champion to compare a canary with. Promote one first.")
    if champion == canary.candidate:
        raise ChangeRefused(f"{_called(pointer, champion)} is the champion already.")
    _refuse_running_canary(pointer)
    _refuse_older(pointer, registered, champion)
    channels = replace(pointer.channels, challenger=canary.candidate)
    return Change(
        after=replace(pointer, channels=channels, canary=canary),
        action="start_canary",
        from_digest=champion,
        to_digest=canary.candidate,
        report=canary.report,
        numbers={"percent": canary.percent, "rules": canary.rules},
    )


def end_canary(pointer: Pointer, outcome: Outcome, numbers: dict[str, Any]) -> Change:
    """Return the state after a canary: its candidate is the champion, or no channel has it.

    Raises:
        ChangeRefused: no canary runs.
    """
    canary = pointer.canary
    if canary is None:
        raise ChangeRefused("no canary runs, so none can end. `classmark registry list` shows it.")
    if outcome == "promoted":
        after = _crowned(pointer, canary.candidate)
    else:
        after = replace(pointer, channels=replace(pointer.channels, challenger=None))
    return Change(
        after=replace(after, canary=None),
        action="end_canary",
        from_digest=pointer.channels.champion,
        to_digest=canary.candidate,
        report=canary.report,
        numbers={"outcome": outcome, **numbers},
    )


def set_shadow(pointer: Pointer, digest: str | None, percent: float) -> Change:
    """Return the state with a share of requests scored by another bundle too, or by none.

    Raises:
        UsageError: the share is not above 0 to 100 percent.
        BundleNotFound: it is not in the registry.
    """
    if digest is not None:
        registered_as(pointer, digest)
        if not 0 < percent <= 100:
            raise UsageError(f"a shadow takes above 0 to 100 percent, got {percent:g}.")
    share = percent if digest is not None else 0.0
    channels = replace(pointer.channels, shadow=digest)
    return Change(
        after=replace(pointer, channels=channels, shadow_percent=share),
        action="set_shadow",
        from_digest=pointer.channels.shadow,
        to_digest=digest,
        numbers={"percent": share},
    )


def archive(pointer: Pointer, digests: Collection[str]) -> Change:
    """Return the state with bundles that are kept but no longer serve.

    Raises:
        BundleNotFound: one is not in the registry.
        ChangeRefused: a channel has one.
    """
    for digest in digests:
        registered_as(pointer, digest)
        name = channel_of(pointer.channels, digest)
        if name is not None:
            raise ChangeRefused(
                f"{_called(pointer, digest)} is the {name}: {_FREED[name]}. Then archive it."
            )
    archived = dict.fromkeys((*pointer.archived, *digests))
    former = tuple(digest for digest in pointer.former if digest not in digests)
    after = replace(pointer, archived=tuple(archived), former=former)
    return Change(after=after, action="archive", numbers={"digests": list(digests)})


def collect(pointer: Pointer, keep: int) -> Change:
    """Return the state without the bundles that nothing names.

    What a channel or the archive has stays, and so do the ``keep`` latest of the others.

    Raises:
        UsageError: the number is negative.
    """
    if keep < 0:
        raise UsageError(f"--keep must be 0 or more, got {keep}.")
    named = {*served(pointer), *pointer.archived}
    spare = [d for d in pointer.bundles if d not in named]
    latest = sorted(spare, key=lambda digest: _used_at(pointer, digest), reverse=True)
    gone = set(latest[keep:])
    after = replace(
        pointer,
        bundles={d: known for d, known in pointer.bundles.items() if d not in gone},
        former=tuple(digest for digest in pointer.former if digest not in gone),
    )
    return Change(after=after, action="collect", numbers={"digests": sorted(gone), "keep": keep})


def trust(pointer: Pointer, fingerprint: str, public_key: str) -> Change:
    """Return the state with a public key more."""
    keys = {**pointer.trusted_keys, fingerprint: public_key}
    after = replace(pointer, trusted_keys=keys)
    return Change(after=after, action="trust", numbers={"key": fingerprint})


def revoke(pointer: Pointer, fingerprint: str) -> Change:
    """Return the state without a public key.

    Args:
        pointer: the state before.
        fingerprint: of the key, or the first digits of it.

    Raises:
        ChangeRefused: it names no trusted key, or several.
    """
    found = [key for key in pointer.trusted_keys if fingerprint and key.startswith(fingerprint)]
    if len(found) != 1:
        there = ", ".join(key[:SHOWN_DIGITS] for key in pointer.trusted_keys) or "none"
        raise ChangeRefused(
            f"{fingerprint[:64]!r} names {len(found)} of the trusted keys, it must name one; there "
            f"is {there}."
        )
    keys = {name: key for name, key in pointer.trusted_keys.items() if name != found[0]}
    after = replace(pointer, trusted_keys=keys)
    return Change(after=after, action="revoke", numbers={"key": found[0]})


def registered_as(pointer: Pointer, digest: str) -> Registered:
    """Return what is known of a bundle.

    Raises:
        BundleNotFound: it is not in the registry.
    """
    try:
        return pointer.bundles[digest]
    except KeyError as error:
        raise BundleNotFound(
            f"the registry has no bundle {digest[:64]!r}. `classmark registry list` shows what "
            "there is; `classmark registry add` adds one."
        ) from error


def _crowned(pointer: Pointer, digest: str) -> Pointer:
    before = pointer.channels.champion
    challenger = pointer.channels.challenger
    channels = Channels(
        champion=digest,
        challenger=None if challenger == digest else challenger,
        shadow=None if pointer.channels.shadow == digest else pointer.channels.shadow,
    )
    return replace(
        pointer,
        channels=channels,
        shadow_percent=pointer.shadow_percent if channels.shadow else 0.0,
        former=(*pointer.former, before) if before else pointer.former,
        archived=tuple(other for other in pointer.archived if other != digest),
    )


def _refuse_running_canary(pointer: Pointer) -> None:
    if pointer.canary is not None:
        raise ChangeRefused(
            f"a canary of {_called(pointer, pointer.canary.candidate)} runs since "
            f"{pointer.canary.started_utc}. Wait for its end, or end it with "
            "`classmark registry rollback`, which keeps the champion."
        )


def _refuse_older(pointer: Pointer, registered: Registered, champion: str | None) -> None:
    """Refuse a bundle that was signed before the champion: it is not newer, whatever it says."""
    newest = pointer.bundles[champion].counter if champion in pointer.bundles else None
    if newest is not None and registered.counter is not None and registered.counter < newest:
        raise ChangeRefused(
            f"{registered.spec} was signed as number {registered.counter}, the champion "
            f"as number {newest}: it is the older one. Go back with `classmark registry rollback`, "
            "or sign it again with `classmark registry add --sign`."
        )


def _called(pointer: Pointer, digest: str) -> str:
    known = pointer.bundles.get(digest)
    return f"{known.spec} ({digest[:SHOWN_DIGITS]})" if known else digest[:SHOWN_DIGITS]


def channel_of(channels: Channels, digest: str) -> str | None:
    """Return the channel that has a bundle; None if none has."""
    named = {
        "champion": channels.champion,
        "challenger": channels.challenger,
        "shadow": channels.shadow,
    }
    return next((name for name, there in named.items() if there == digest), None)


def served(pointer: Pointer) -> set[str]:
    """Return the digests of the bundles that channels have."""
    channels = pointer.channels
    return {d for d in (channels.champion, channels.challenger, channels.shadow) if d is not None}


def _used_at(pointer: Pointer, digest: str) -> tuple[int, int]:
    """Return what a bundle is ordered by: the latest champions, then the latest added."""
    place = {former: number for number, former in enumerate(pointer.former)}.get(digest, -1)
    return place, pointer.bundles[digest].sequence
