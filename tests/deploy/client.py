"""Clients that post the golden digits, to be run in the network of the service's container by the image's own Python.

`client.py CLIENTS REQUESTS`: each client posts that many, or until nobody answers its call any more. Prints a line when
a hundred answers have come, and at the end how often each outcome was seen and how many calls were made.
"""

import http.client
import json
import sys
import threading
from collections import Counter
from pathlib import Path

GOLDEN = sorted(Path("/app/models/digits/1/golden").glob("digit-*.png"))
outcomes: Counter[str] = Counter()
lock = threading.Lock()


class Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        outcomes["calls"] += 1
        super().connect()


def post(number: int, requests: int) -> None:
    connection = Connection("127.0.0.1", 8000, timeout=60)
    for i in range(number, number + requests):
        path = GOLDEN[i % len(GOLDEN)]
        try:
            connection.request("POST", "/v1/classify", path.read_bytes())
            response = connection.getresponse()
            answer = json.loads(response.read())
        except ConnectionRefusedError:
            outcome = "refused"
        except OSError as error:
            outcome = repr(error)
        else:
            right = response.status == 200 and path.stem.endswith(answer["predictions"][0]["label"])
            outcome = "right" if right else f"{response.status} {answer}"
        with lock:
            outcomes[outcome] += 1
            if outcome == "right" and outcomes["right"] == 100:
                print("a hundred answers", flush=True)
        if outcome == "refused":
            return


clients, requests = map(int, sys.argv[1:])
threads = [threading.Thread(target=post, args=(number, requests)) for number in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(outcomes))
