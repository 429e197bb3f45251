"""Exit 0 where this pod should get requests: its raylet lives and its Serve proxy takes requests.

The readiness probe of a worker. Standard library only, and nothing of Ray: it runs every few seconds.
"""

import argparse
import http.client
import sys

_TIMEOUT_S = 2


def answers(port: int, path: str) -> bool:
    """Whether something on this pod answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def main() -> int:
    """0 or 1, and which of the two is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agent-port", type=int, default=52365)
    parser.add_argument("--serve-port", type=int, default=8000)
    args = parser.parse_args()
    wanted = {"raylet": (args.agent_port, "/api/local_raylet_healthz"), "proxy": (args.serve_port, "/-/healthz")}
    missing = [name for name, (port, path) in wanted.items() if not answers(port, path)]
    if missing:
        print("not ready:", ", ".join(missing))
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
