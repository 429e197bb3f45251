"""Start an export: copy the suspended RayJob that is its template into one that runs; remove the oldest that ended.

None is started while another runs: they would write the same parts, and take the quota twice.

Run by the CronJob's pod, with its service account. Standard library only.
"""

import argparse
import json
import re
import ssl
import sys
import time
import urllib.request
from pathlib import Path

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 30
_ENDED = ("Complete", "Failed", "ValidationFailed")


class Api:
    """The RayJobs of one namespace."""

    def __init__(self, server: str, account: Path) -> None:
        namespace = (account / "namespace").read_text()
        self._url = f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._token = (account / "token").read_text()
        authority = account / "ca.crt"
        self._tls = ssl.create_default_context(cafile=str(authority)) if server.startswith("https:") else None

    def get(self, name: str) -> dict:
        """The RayJob of this name."""
        return self._ask("GET", f"{self._url}/{name}")

    def list(self) -> list[dict]:
        """All of them."""
        return self._ask("GET", self._url)["items"]

    def delete(self, name: str) -> None:
        """Remove the RayJob of this name, and what is its own."""
        self._ask("DELETE", f"{self._url}/{name}")

    def create(self, job: dict) -> dict:
        """The RayJob as the API server made it."""
        return self._ask("POST", self._url, job)

    def _ask(self, method: str, url: str, body: dict | None = None) -> dict:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the address is an argument
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls) as answer:  # noqa: S310
            return json.load(answer)


def running(template: dict, now: float) -> dict:
    """A job that runs as the template says, under a name of its own; finished ones are told apart by it.

    ``{day}`` in its entrypoint is that of the start, so that a retry in the next month has the window of the first try.
    """
    metadata, spec = template["metadata"], template["spec"]
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    name = f"{metadata['name']}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}"
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {"name": name, "labels": metadata.get("labels", {})},
        "spec": {
            **{key: value for key, value in spec.items() if key not in ("suspend", "jobId")},
            "entrypoint": spec["entrypoint"].replace("{day}", day),
        },
    }


def made_from(template: str, jobs: list[dict]) -> dict[str, bool]:
    """This template's jobs, the newest first: their names, and whether they have ended."""
    pattern = re.compile(rf"{re.escape(template)}-\d{{8}}-\d{{6}}")
    found = {job["metadata"]["name"]: job.get("status", {}).get("jobDeploymentStatus") in _ENDED for job in jobs}
    return {name: found[name] for name in sorted(found, reverse=True) if pattern.fullmatch(name)}


def main() -> int:
    """0 where a job was made; 1 where another still runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--template", required=True, help="name of the suspended RayJob")
    parser.add_argument("--keep", type=int, default=3, help="how many that ended are kept")
    parser.add_argument("--server", default="https://kubernetes.default.svc", help="address of the API server")
    parser.add_argument("--account", type=Path, default=_ACCOUNT, help="folder of the service account's files")
    args = parser.parse_args()
    api = Api(args.server, args.account)
    jobs = made_from(args.template, api.list())
    if under_way := [name for name, has_ended in jobs.items() if not has_ended]:
        print(f"nothing was started: {', '.join(under_way)} has not ended; kubectl delete rayjob stops it")
        return 1
    made = api.create(running(api.get(args.template), time.time()))
    print("started", made["metadata"]["name"])
    for name in list(jobs)[args.keep :]:
        api.delete(name)
        print("removed", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
