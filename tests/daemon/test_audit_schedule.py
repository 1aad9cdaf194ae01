from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from dcounter.audits import AuditRuns
from dcounter.daemon.audit_schedule import AuditSchedule


class Audits:
    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def audit(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


def _schedule(every_s: float) -> tuple[Clock, Audits, AuditSchedule]:
    clock, audits = Clock(), Audits()
    schedule = AuditSchedule(audits.audit, every_s, clock)
    schedule.startService()
    return clock, audits, schedule


def test_again_and_again_until_it_stops() -> None:
    clock, audits, schedule = _schedule(60)
    assert audits.asked == 0
    clock.pump([60, 60, 60])
    assert audits.asked == 3
    schedule.stopService()
    clock.pump([60, 60])
    assert audits.asked == 3
    assert clock.getDelayedCalls() == []


def test_never() -> None:
    clock, audits, schedule = _schedule(0)
    assert clock.getDelayedCalls() == []
    schedule.stopService()
    assert audits.asked == 0


def test_a_refusal_is_logged_and_does_not_end_it() -> None:
    clock, audits, schedule = _schedule(60)
    audits.error = AuditRuns("an audit is under way")
    with capturedLogs() as logs:
        clock.pump([60])
    assert [log["why"] for log in logs] == ["an audit is under way"]
    clock.pump([60])
    assert audits.asked == 2
    schedule.stopService()
