# SPDX-License-Identifier: Apache-2.0
"""getaddrinfo() in many threads: look_up.py THREADS COUNT, of so many names each.

Its name server is peers.py's (`dns`), whose answer comes of the name. Prints JSON.
"""
import json
import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from suite.peers import address_text  # noqa: E402


def look_up(thread, count, counts):
    for number in range(count):
        name = f"t{thread}-{number}.test"
        counts["asked"] += 1
        try:
            found = socket.getaddrinfo(name, 53, type=socket.SOCK_DGRAM)
        except OSError:
            counts["errors"] += 1
            continue
        right = [one[4][0] for one in found] == [address_text(name)]
        counts["right" if right else "wrong"] += 1


results = [dict.fromkeys(("asked", "right", "wrong", "errors"), 0) for _ in range(int(sys.argv[1]))]
threads = [threading.Thread(target=look_up, args=(number, int(sys.argv[2]), counts))
           for number, counts in enumerate(results)]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(json.dumps({key: sum(counts[key] for counts in results) for key in results[0]}))
