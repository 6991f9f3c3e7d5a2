"""The pictures of docs/pictures.md: `python docs/shots.py`, from the root, after the site was built.

Needs `pip install --group browser` and a Chromium on the PATH; takes some minutes. `--all DIR` keeps every
page there besides, whole, as it is on a screen, in the dark and on a phone: to be looked at after a change.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import pyte
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

from onecycle.report import write

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs/_build"
SHOTS = ROOT / "docs/images/shots"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}},
}
LONGEST = 6000  # pixels of a page that is kept whole
COLUMNS, ROWS = 96, 24
# What runs in a terminal, and a pattern of what is on the screen when it is taken; None: at the end.
RECORDED: list[tuple[str, dict[str, str | None]]] = [
    ("demo", {"demo-live": "constant 0.001, the default ━━━━", "demo": None}),
    ("find digits --epochs 60 --out found", {"find-live": "pilot 3, peak", "find": None}),
    ("tune digits --epochs 10 --out tuned", {"tune-live": r"best so far(.|\n)*\d/\d+, ", "tune": None}),
    ("train digits --recipe tuned/recipe.toml --out trained", {"train-live": r"[1-9]\d*/220", "train": None}),
    ("find digits --epochs 60 --verbose", {"verbose": None}),
    ("find digits --quiet", {"quiet": None}),
]
COLOURS = {
    "default": "#d7dae0", "black": "#3b4048", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d7dae0",
}  # fmt: skip


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", type=Path, metavar="DIR", help="keep every page whole in DIR, too")
    parser.add_argument("--only", choices=["site", "terminal"], help="not the others")
    arguments = parser.parse_args()
    if not (SITE / "index.html").is_file():
        sys.exit("there is no site: sphinx-build -b html docs docs/_build")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as engine, tempfile.TemporaryDirectory() as folder:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if arguments.only != "site":
            for name, screen in terminal(Path(folder)):
                small(picture(browser, screen), SHOTS / f"terminal-{name}.webp", 900)
            reports(browser, Path(folder))
        if arguments.only != "terminal":
            for look in LOOKS:
                shots = list(site(browser, look, arguments.all))
                sheet(shots, SHOTS / f"pages-{look}.webp", columns=8 if look == "phone" else 5)
        browser.close()


def terminal(folder: Path) -> Iterator[tuple[str, pyte.Screen]]:
    """Run the commands in a terminal, and give its screen at the moments that are asked for."""
    for command, moments in RECORDED:
        screen = pyte.Screen(COLUMNS, ROWS)
        stream = pyte.ByteStream(screen)
        stream.feed(f"$ onecycle {command}\r\n".encode())
        process, fd = pty.fork()
        if process == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm-256color", PYTHONPATH=f"{ROOT / 'src'}", OMP_NUM_THREADS="1")
            os.execv(sys.executable, [sys.executable, "-m", "onecycle", *command.split()])
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        waiting = dict(moments)
        while data := _read(fd):
            stream.feed(data)
            text = "\n".join(screen.display)
            for name, words in list(waiting.items()):
                if words is not None and re.search(words, text):
                    del waiting[name]
                    yield name, screen
        os.waitpid(process, 0)
        for name, words in waiting.items():
            if words is not None:
                sys.exit(f"onecycle {command} never showed {words!r}")
            yield name, screen


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # on Linux, the end
        return b""


def picture(browser: Browser, screen: pyte.Screen) -> bytes:
    """The screen of a terminal as it looks."""
    last = max((y for y, line in enumerate(screen.display) if line.strip()), default=0)
    lines = []
    for y in range(last + 1):
        cells: Mapping[int, Any] = screen.buffer[y]
        line = "".join(
            f'<span style="color:{COLOURS.get(cell.fg, cell.fg)};font-weight:{700 if cell.bold else 400}">'
            f"{escape(cell.data)}</span>"
            for cell in (cells[x] for x in range(COLUMNS))
        )
        lines.append(line)
    page = browser.new_page(device_scale_factor=2)
    page.set_content(
        '<pre style="display:inline-block;margin:0;padding:16px 20px;background:#1e2127;'
        'font:14px/1.35 DejaVu Sans Mono,monospace">' + "\n".join(lines) + "</pre>"
    )
    data = page.locator("pre").screenshot()
    page.close()
    return data


def reports(browser: Browser, folder: Path) -> None:
    """The reports of what ran in the terminal: on a screen, in the dark, on a phone and in print."""
    path = write(folder / "tuned")
    for look, options in LOOKS.items():
        page = browser.new_page(**options)
        page.goto(path.as_uri())
        small(page.screenshot(), SHOTS / f"report-{look}.webp", 390 if look == "phone" else 800)
        page.close()
    page = browser.new_page(viewport={"width": 794, "height": 1123})  # A4
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    small(page.screenshot(), SHOTS / "report-print.webp", 500)
    page.close()


def site(browser: Browser, look: str, keep: Path | None) -> Iterator[tuple[str, Image.Image]]:
    """The first screen of each page."""
    context = browser.new_context(**LOOKS[look])
    for path in sorted(SITE.rglob("*.html")):
        name = path.relative_to(SITE).with_suffix("").as_posix()
        page = context.new_page()
        page.goto(path.as_uri())
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            whole(page, keep / f"{look}-{name.replace('/', '-')}.png")
        yield name, Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        page.close()
    context.close()


def whole(page: Page, path: Path) -> None:
    """Keep a page from its top to its end, or as much of it as is not too long."""
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_load_state("networkidle")
    width, height = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, LONGEST)}
    page.screenshot(path=path, full_page=True, clip=clip)  # type: ignore[arg-type]


def sheet(pages: list[tuple[str, Image.Image]], path: Path, columns: int) -> None:
    """One picture of all pages, each with its name."""
    shots = [(name, image) for name, image in pages if name != "genindex"]
    width = 1700 // columns - 10
    height = round(shots[0][1].height * width / shots[0][1].width)
    rows = -(-len(shots) // columns)
    image = Image.new("RGB", (1700, rows * (height + 30)), "#9aa3b2")
    draw = ImageDraw.Draw(image)
    for i, (name, shot) in enumerate(shots):
        x, y = 5 + i % columns * (width + 10), i // columns * (height + 30)
        draw.text((x + 2, y + 8), name[-26:], "#10131a")
        image.paste(shot.resize((width, height), Image.Resampling.LANCZOS), (x, y + 25))
    image.save(path, quality=60, method=6)


def small(data: bytes, path: Path, width: int) -> None:
    """Keep a picture, scaled to a width, in a small file."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    height = round(image.height * width / image.width)
    image.resize((width, height), Image.Resampling.LANCZOS).save(path, quality=80, method=6)


if __name__ == "__main__":
    main()
