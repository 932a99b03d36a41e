"""Digits as people draw them: pen strokes of several shapes each, warped at random, on a pad of 100 x 100."""

import math
import random
from dataclasses import dataclass

Point = tuple[float, float]
Stroke = list[Point]


# Points that the pen passes through, in a box of 100 x 100, x rightwards and y downwards; a semicolon lifts the pen.
SHAPES = {
    "0": [
        "50,0 78,25 78,75 50,100 22,75 22,25 50,0",
        "50,0 7,25 7,75 50,100 93,75 93,25 50,0",
        "62,7 75,49 64,92 39,95 25,56 34,11 59,3",
        "55,1 26,20 23,71 49,100 76,75 75,23 47,0",
    ],
    "1": [
        "50,0 50,100",
        "30,25 50,0 50,100",
        "30,20 50,0 50,100; 25,100 75,100",
        "20,35 55,0 55,100",
    ],
    "2": [
        "15,25 30,5 60,2 80,20 75,42 45,72 15,100; 15,100 85,100",
        "20,20 45,0 75,12 75,40 20,95; 20,95 50,92 85,100",
        "15,20 40,0 72,15 68,45 35,85 18,95 15,82 35,80 60,97 85,95",
        "10,30 20,5 55,0 80,15 80,35 50,65 10,97 50,97 90,97",
    ],
    "3": [
        "15,12 45,0 75,12 72,35 40,47; 40,47 75,55 85,78 60,100 10,88",
        "20,5 55,0 75,20 60,42 40,48; 40,48 70,55 75,80 50,98 15,95",
        "15,0 80,0; 80,0 45,40; 45,40 75,50 82,75 60,97 30,100 12,88",
        "10,10 50,0 80,20 55,45; 55,45 90,65 70,95 30,100 5,85",
    ],
    "4": [
        "55,0 10,65; 10,65 90,65; 70,35 70,100",
        "65,0 10,70; 10,70 90,70; 65,0 65,100",
        "20,0 15,50; 15,50 85,50; 80,0 80,100",
        "30,0 15,40 30,55 80,50; 80,5 70,100",
    ],
    "5": [
        "80,0 25,0; 25,0 20,42; 20,42 50,35 80,50 82,78 55,100 15,92",
        "25,0 20,40; 20,40 55,35 80,55 75,85 45,100 15,90; 25,0 85,0",
        "85,2 30,5; 30,5 25,45; 25,45 65,45 80,70 60,95 15,100",
        "75,0 35,2 20,20 30,40 60,50 75,72 55,98 15,95",
    ],
    "6": [
        "65,0 35,25 18,60 25,90 50,100 75,88 78,68 55,55 30,62 20,75",
        "45,0 25,35 18,70 35,97 65,97 80,75 65,55 35,58 20,75",
        "75,5 45,10 20,45 20,80 45,100 75,85 70,60 45,52 20,70",
        "30,0 20,40 20,80 45,100 70,90 72,65 50,52 22,65",
    ],
    "7": [
        "10,0 85,0; 85,0 40,100",
        "10,5 85,0; 85,0 55,50 40,100",
        "15,15 15,0 50,0 85,0; 85,0 45,100",
        "10,0 85,0; 85,0 40,100; 35,50 85,48",
    ],
    "8": [
        "70,12 45,0 22,15 35,40 65,58 78,80 50,100 22,82 35,58 65,40 75,18 62,5",
        "50,0 72,12 72,34 50,46 28,34 28,11 50,0; 50,46 78,60 78,86 50,100 22,86 22,60 50,46",
        "50,48 22,30 35,3 65,3 78,25 50,48 20,70 35,98 68,97 80,72 50,48",
        "80,10 50,0 25,20 50,45 75,70 55,100 25,80 45,50 80,10",
    ],
    "9": [
        "75,20 50,0 22,15 25,40 50,50 75,35 77,12; 77,12 75,60 70,100",
        "74,18 53,0 27,10 22,36 43,54 69,44 74,18; 76,15 72,100",
        "78,15 50,0 20,20 35,48 65,42 78,15; 78,15 80,60 65,92 30,100",
        "70,10 40,2 20,25 40,50 70,40 75,10; 75,10 60,60 40,100",
    ],
}


@dataclass(frozen=True)
class DrawnDigit:
    label: str
    shape: int
    strokes: list[Stroke]  # in 0..100


def draw(label: str, shape: int, number: int) -> DrawnDigit:
    """One of a shape's drawings, turned, slanted, stretched, bent, of any size and anywhere on the pad."""
    random_ = random.Random(f"{label} {shape} {number}")
    angle, slant = random_.uniform(-0.2, 0.2), random_.uniform(-0.3, 0.15)
    aspect, size = random_.uniform(0.6, 1.05), random_.uniform(25, 88)
    waves, phase = (random_.uniform(4, 9), random_.uniform(4, 9)), random_.uniform(0, 6)

    def warped(x: float, y: float) -> Point:
        x, y = (x - 0.5) * aspect, y - 0.5
        x, y = x + 0.012 * math.sin(waves[0] * y + phase), y + 0.012 * math.sin(waves[1] * x + phase)
        x -= slant * y
        return (
            (x * math.cos(angle) - y * math.sin(angle)) * size,
            (x * math.sin(angle) + y * math.cos(angle)) * size,
        )

    strokes = []
    for stroke in SHAPES[label][shape].split("; "):
        points = [tuple(int(part) / 100 for part in point.split(",")) for point in stroke.split()]
        trembling = [(x + random_.gauss(0, 0.022), y + random_.gauss(0, 0.022)) for x, y in points]
        strokes.append([warped(*point) for point in _through(trembling)])
    xs, ys = zip(*(point for stroke in strokes for point in stroke), strict=True)
    right, down = (random_.uniform(3 - min(values), max(3 - min(values), 97 - max(values))) for values in (xs, ys))
    return DrawnDigit(label, shape, [[(x + right, y + down) for x, y in stroke] for stroke in strokes])


def _through(points: Stroke, steps: int = 8) -> Stroke:
    """A Catmull-Rom curve through the points."""
    ends = [points[0], *points, points[-1]]
    curve = []
    for before, start, end, after in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for t in (step / steps for step in range(steps)):
            x, y = (
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(before, start, end, after, strict=True)
            )
            curve.append((x, y))
    return [*curve, points[-1]]
