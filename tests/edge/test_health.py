from skyreid.contract.device import Health, decode_health
from skyreid.contract.sighting import ModelRef
from skyreid.edge.health import Reporter

MODEL = ModelRef("0123456789abcdef", 4, "b" * 64, "test")


class Link:
    state = "connected"
    troubles: dict[str, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.sent: list[Health] = []

    def send(self, channel: str, payload: bytes, **_: object) -> int:
        self.sent.append(decode_health(payload))
        return len(self.sent)


class Camera:
    condition, why, clock_why = "refused", "tls: " + "x" * 400, "the camera says no time"
    lost = {"tls": 2}  # noqa: RUF012


def test_frames_per_second_are_those_since_the_report_before(monkeypatch: object) -> None:
    """An hour at 1 a second is not hidden by a day at 25."""
    now = [0.0]
    import skyreid.edge.health as health

    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    link = Link()
    reporter = Reporter(link, Camera(), MODEL)  # type: ignore[arg-type]
    for at_s, frames in ((86_400, 2_160_000), (86_430, 2_160_030)):
        now[0] = at_s
        reporter.send(Health(frames=frames))
    assert [report.fps for report in link.sent] == [25.0, 1.0]


def test_health_says_why_a_camera_gives_nothing_and_why_its_clock_is_no_better() -> None:
    link = Link()
    Reporter(link, Camera(), MODEL).send(Health(frames=0))  # type: ignore[arg-type]
    report = link.sent[0]
    assert (report.source, report.lost_connections) == ("refused", {"tls": 2})
    assert report.source_why is not None
    assert report.source_why.startswith("tls: x")
    assert report.clock_why == "the camera says no time"
