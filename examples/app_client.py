"""Uses a running `elysium app` as a service: tracks a box and words in a video and saves what comes back.

    elysium app &
    python examples/app_client.py clip.mp4 --box 120,80,220,300 --expression "the dog" [--url http://127.0.0.1:7860]

Needs `pip install gradio_client` alone, not elysium. The four endpoints are described in docs/app.md.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from gradio_client import Client, handle_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--box", action="append", default=[], help="left,top,right,bottom in pixels; repeatable")
    parser.add_argument("--expression", action="append", default=[], help="an object in words; repeatable")
    parser.add_argument("--frame", type=int, default=0, help="where the objects start")
    parser.add_argument("--out", type=Path, default=Path("tracked"))
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    arguments = parser.parse_args()
    boxes = [[float(number) for number in box.split(",")] for box in arguments.box]

    client = Client(arguments.url, verbose=False)
    video = [handle_file(str(arguments.video))]  # one video, or images of one size
    answer, files = client.predict(video, boxes, arguments.expression, arguments.frame, 1, api_name="/track")
    for track in answer["tracks"]:
        seen = sum(frame["state"] == "tracked" for frame in track["frames"])
        print(f"{track['expression'] or track['initial_box']}: seen in {seen} of {len(track['frames'])} frames")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in files:
        print(shutil.copy(name, arguments.out / Path(name).name))
    if boxes:
        print("it is", *client.predict(video, boxes, arguments.frame, api_name="/describe"))
    for found in client.predict(video, arguments.expression, 0, api_name="/ground") if arguments.expression else []:
        print(f"in frame 0, {found['expression']!r} is at {found['box_xyxy']} (score {found['score']})")
    print(client.predict(video, "How many people are there?", api_name="/ask")["answer"])


if __name__ == "__main__":
    main()
