"""From a mood to a better one, a few songs at a time: sad, then calm, then happy.

Music therapists call it the iso principle: begin where the listener is, and move on in small steps. In a controlled
study sad music followed by happy music left sad people in a better mood than other orders did, though not every
difference was significant (Starcke, Mayr and von Georgi, "Emotion Modulation through Music after Sadness Induction",
2021, doi:10.3390/ijerph182312486). Here it orders a playlist, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from model.emotions import Emotion
from songs.catalog import Catalog, Playlist, Track

STEPS: Mapping[Emotion, tuple[Emotion, ...]] = {
    Emotion.ANGRY: (Emotion.ANGRY, Emotion.NEUTRAL, Emotion.HAPPY),
    Emotion.DISGUST: (Emotion.DISGUST, Emotion.NEUTRAL, Emotion.HAPPY),
    Emotion.FEAR: (Emotion.FEAR, Emotion.NEUTRAL, Emotion.HAPPY),
    Emotion.SAD: (Emotion.SAD, Emotion.NEUTRAL, Emotion.HAPPY),
    Emotion.SURPRISE: (Emotion.SURPRISE, Emotion.HAPPY),  # excited already: calm would be a way down
    Emotion.NEUTRAL: (Emotion.NEUTRAL, Emotion.HAPPY),
    Emotion.HAPPY: (Emotion.HAPPY,),
}
"""Through which lists a mood is lifted."""

SONGS = 15  # about an hour; one more where there are two steps, which have the same share

Place = tuple[float, float]
"""Valence and energy, 0 to 1 each."""
Places = Callable[[Sequence[Track]], Sequence[Place | None]]
"""Where songs lie, None where it is not known."""


def own_places(tracks: Sequence[Track]) -> list[Place | None]:
    """Where songs lie by their own list."""
    return [
        None if track.valence is None or track.energy is None else (track.valence, track.energy) for track in tracks
    ]


def lift(catalog: Catalog, emotion: Emotion, places: Places = own_places) -> Playlist:
    """About SONGS songs from `emotion` to happy, as many from the list of each step; happy is happy's own list.

    Where enough songs of a list have a place, those are taken that lie on the way from the middle of the step before
    to the middle of the next, in the order of that way; of other lists the first songs, as they stand.
    """
    lists = [catalog.playlist(step) for step in STEPS[emotion]]
    if len(lists) == 1:
        return lists[0]
    share = -(-SONGS // len(lists))
    tracks = [track for one in lists for track in one.tracks]
    found = dict(zip(tracks, places(tracks), strict=True))  # in one go: a table is read from end to end
    known = [{track: place for track in one.tracks if (place := found[track])} for one in lists]
    middles = [_middle(list(step.values())) if len(step) >= share else None for step in known]
    taken: dict[Track, Emotion] = {}
    seen: set[str] = set()
    for i, one in enumerate(lists):
        left = [track for track in one.tracks if track.track_id not in seen]
        way = _way(middles, i)
        if way:
            left = _along(way, {track: known[i][track] for track in left if track in known[i]}, share)
        taken |= dict.fromkeys(left[:share], one.emotion)
        seen |= {track.track_id for track in left[:share]}
    fetched = min((one.fetched_at for one in lists if one.fetched_at), default=None)
    return Playlist(emotion, tuple(taken), fetched, tuple(taken.values()))


def _middle(places: Sequence[Place]) -> Place:
    return median(valence for valence, _ in places), median(energy for _, energy in places)


def _way(middles: Sequence[Place | None], i: int) -> tuple[Place, Place] | None:
    """Where a step begins and ends: halfway from the step before, and halfway to the next."""
    here = middles[i]
    if here is None:
        return None
    before = middles[i - 1] if i else None
    after = middles[i + 1] if i + 1 < len(middles) else None
    return _between(before or here, here, 0.5), _between(here, after or here, 0.5)


def _along(way: tuple[Place, Place], places: Mapping[Track, Place], n: int) -> list[Track]:
    """The n songs nearest to n points along the way, in its order."""
    start, end = way
    left = dict(places)
    for i in range(min(n, len(left))):
        point = _between(start, end, (i + 0.5) / n)
        del left[min(left, key=lambda track: _distance(left[track], point))]
    direction = (end[0] - start[0], end[1] - start[1])
    chosen = [track for track in places if track not in left]
    return sorted(chosen, key=lambda t: places[t][0] * direction[0] + places[t][1] * direction[1])


def _between(one: Place, other: Place, share: float) -> Place:
    return one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])


def _distance(one: Place, other: Place) -> float:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
