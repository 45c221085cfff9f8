"""Counts of requests, and the numbers of the explorer for monitoring, in Prometheus' text format."""

from collections import Counter
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitreous.web.explorer.explorer import Explorer


@dataclass
class RequestCounts:
    """Responses by their status, and the bytes of their bodies."""

    responses: Counter[int] = field(default_factory=Counter)
    sent_bytes: int = 0


class RequestCounter:
    """Middleware that counts responses."""

    def __init__(self, app: ASGIApp, *, counts: RequestCounts) -> None:
        self.app, self.counts = app, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, and count it."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.counts.responses[message["status"]] += 1
            elif message["type"] == "http.response.body":
                self.counts.sent_bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)


def format_metrics(explorer: Explorer, counts: RequestCounts) -> str:
    """Write the numbers of this moment: one name and value a line, each with its type before it."""
    queue, sessions = explorer.queue, explorer.sessions
    responses = {f'status="{status}"': count for status, count in sorted(counts.responses.items())}
    jobs = {f'state="{state}"': count for state, count in sorted(queue.counts.items())}
    families: tuple[tuple[str, str, dict[str, float]], ...] = (
        ("responses_total", "counter", dict(responses)),
        ("sent_bytes_total", "counter", {"": counts.sent_bytes}),
        ("jobs_total", "counter", dict(jobs)),
        ("job_seconds_total", "counter", {"": round(queue.busy_seconds, 3)}),
        ("jobs_waiting", "gauge", {"": len(queue)}),
        ("jobs_running", "gauge", {"": int(queue.is_busy)}),
        ("sessions", "gauge", {"": len(sessions)}),
        ("upload_bytes", "gauge", {"": explorer.uploads.used_bytes}),
        ("session_bytes", "gauge", {"": sessions.stored_bytes}),
    )
    lines = []
    for name, kind, values in families:
        lines.append(f"# TYPE vitreous_{name} {kind}")
        lines += [f"vitreous_{name}{f'{{{label}}}' if label else ''} {value}" for label, value in values.items()]
    return "\n".join(lines) + "\n"
