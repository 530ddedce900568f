"""The words that a job's status uses: phases, reasons, outcomes, and the budgets that outcomes draw on.

The tables sit on the enums as exhaustive matches without a default, so that mypy finds the reason that nobody gave a
phase.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a job stands: `.status.phase`. The words are those of the first job scheduler."""

    SCHEDULED = "Scheduled"
    REQUESTED = "Requested"
    RUNNING = "Running"
    FINISHED_OK = "FinishedOK"
    FINISHED_NOK = "FinishedNOK"
    TERMINATED_OK = "TerminatedOK"
    TERMINATED_NOK = "TerminatedNOK"

    @property
    def finished(self) -> bool:
        """The verdict is known; an instance may still be alive."""
        return self not in (Phase.SCHEDULED, Phase.REQUESTED, Phase.RUNNING)

    @property
    def terminated(self) -> bool:
        """The verdict is known and no instance remains."""
        return self in (Phase.TERMINATED_OK, Phase.TERMINATED_NOK)

    @property
    def succeeded(self) -> bool:
        return self in (Phase.FINISHED_OK, Phase.TERMINATED_OK)

    @property
    def once_terminated(self) -> Phase:
        """The phase that follows a finished one when no instance remains."""
        return Phase.TERMINATED_OK if self.succeeded else Phase.TERMINATED_NOK


class Reason(StrEnum):
    """Why a job is in its phase: `.status.reason`. A closed list."""

    # Scheduled
    WAITING_FOR_START_TIME = "WaitingForStartTime"
    """startAt is ahead."""
    SUSPENDED = "Suspended"
    """spec.suspend is true."""
    # Requested
    LAUNCHING = "Launching"
    """An instance is being asked for."""
    BOOTING = "Booting"
    """An instance is bound and has not claimed the job yet."""
    PULLING_IMAGE = "PullingImage"
    """The agent has claimed the job and prepares the container."""
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    """No admissible capacity pool has an instance now."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A quota of the account, or maxConcurrent of the class, is used up."""
    THROTTLED = "Throttled"
    """EC2 asks for fewer calls."""
    CLASS_NOT_READY = "ClassNotReady"
    """The SpotJobClass does not exist, does not admit the namespace, or cannot be resolved yet."""
    INTERRUPTED = "Interrupted"
    """EC2 took the instance back; the next attempt follows when that instance is dead."""
    BACKING_OFF = "BackingOff"
    """The last attempt failed and the next one waits for nextAttemptTime."""
    # Running
    CONTAINER_RUNNING = "ContainerRunning"
    """The container runs."""
    INTERRUPTION_NOTICE = "InterruptionNotice"
    """The container runs, and EC2 has said that it will take the instance back."""
    STOPPING = "Stopping"
    """The job was deleted or suspended; its container is told to stop and has its grace."""
    AWAITING_RESULT = "AwaitingResult"
    """The instance is gone and did not report; its serial console is asked for the result."""
    # FinishedOK, TerminatedOK
    CONTAINER_SUCCEEDED = "ContainerSucceeded"
    """The container exited with 0, or called back ok."""
    # FinishedNOK, TerminatedNOK
    CONTAINER_FAILED = "ContainerFailed"
    """The container exited with another code than 0 and no retry is left."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel killed the container for its memory and no retry is left."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The image does not exist or may not be read, or its registry failed too often."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """activeDeadlineSeconds have passed, or an attempt's deadline and no retry is left."""
    STARTUP_TIMEOUT = "StartupTimeout"
    """Hosts failed too often before or while the container ran."""
    INTERRUPTION_LIMIT_EXCEEDED = "InterruptionLimitExceeded"
    """EC2 took back more instances than interruptionLimit allows."""
    CAPACITY_TIMEOUT = "CapacityTimeout"
    """No capacity came within capacityTimeoutSeconds."""
    LAUNCH_REJECTED = "LaunchRejected"
    """EC2 refused the launch for a cause that waiting does not mend."""
    RESULT_LOST = "ResultLost"
    """The instance is gone and nobody knows the exit code."""
    CANCELLED = "Cancelled"
    """The object was deleted before a verdict."""

    @property
    def is_shortage(self) -> bool:
        """The job could be launched if something outside it were otherwise."""
        match self:
            case Reason.INSUFFICIENT_CAPACITY | Reason.QUOTA_EXCEEDED | Reason.THROTTLED | Reason.CLASS_NOT_READY:
                return True
            case _:
                return False

    @property
    def phase(self) -> Phase:
        """The phase in which this reason is first shown."""
        match self:
            case Reason.WAITING_FOR_START_TIME | Reason.SUSPENDED:
                return Phase.SCHEDULED
            case (
                Reason.LAUNCHING
                | Reason.BOOTING
                | Reason.PULLING_IMAGE
                | Reason.INSUFFICIENT_CAPACITY
                | Reason.QUOTA_EXCEEDED
                | Reason.THROTTLED
                | Reason.CLASS_NOT_READY
                | Reason.INTERRUPTED
                | Reason.BACKING_OFF
            ):
                return Phase.REQUESTED
            case Reason.CONTAINER_RUNNING | Reason.INTERRUPTION_NOTICE | Reason.STOPPING | Reason.AWAITING_RESULT:
                return Phase.RUNNING
            case Reason.CONTAINER_SUCCEEDED:
                return Phase.FINISHED_OK
            case (
                Reason.CONTAINER_FAILED
                | Reason.OUT_OF_MEMORY
                | Reason.IMAGE_PULL_FAILED
                | Reason.DEADLINE_EXCEEDED
                | Reason.STARTUP_TIMEOUT
                | Reason.INTERRUPTION_LIMIT_EXCEEDED
                | Reason.CAPACITY_TIMEOUT
                | Reason.LAUNCH_REJECTED
                | Reason.RESULT_LOST
                | Reason.CANCELLED
            ):
                return Phase.FINISHED_NOK

    def same_wait(self, other: Reason | None) -> bool:
        """One wait goes on. A throttled call in the middle of a shortage does not begin a new one: with it, the time
        to the fallback would begin anew as well, and never pass."""
        shortage = (Reason.INSUFFICIENT_CAPACITY, Reason.THROTTLED)
        return self is other or (self in shortage and other in shortage)


class Budget(StrEnum):
    """Which counter of `.status.counts` an attempt's outcome draws on."""

    NONE = "none"
    FAILURES = "failures"
    INTERRUPTIONS = "interruptions"
    LAUNCH_ERRORS = "launchErrors"


class Outcome(StrEnum):
    """How one attempt ended: `.status.attempts[].outcome`."""

    SUCCEEDED = "Succeeded"
    CONTAINER_FAILED = "ContainerFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The registry says that the image does not exist or may not be read: no retry helps."""
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    """The registry failed or did not answer."""
    START_FAILED = "StartFailed"
    """The container could not be created or started: no such program, not executable, refused by the engine."""
    ATTEMPT_DEADLINE_EXCEEDED = "AttemptDeadlineExceeded"
    STARTUP_TIMEOUT = "StartupTimeout"
    """The container did not start within startupDeadlineSeconds."""
    INTERRUPTED = "Interrupted"
    """EC2 took the instance back."""
    HOST_REBOOTED = "HostRebooted"
    """The host rebooted under the container: no exit code."""
    HOST_LOST = "HostLost"
    """The instance died without a report and without a reclaim."""
    NEVER_STARTED = "NeverStarted"
    """The instance was bound but never claimed this attempt; no budget is used."""
    CANCELLED = "Cancelled"
    """The job was deleted, suspended or ended by its deadline."""

    @property
    def budget(self) -> Budget:
        match self:
            case Outcome.SUCCEEDED | Outcome.NEVER_STARTED | Outcome.CANCELLED | Outcome.IMAGE_PULL_FAILED:
                return Budget.NONE
            case (
                Outcome.CONTAINER_FAILED
                | Outcome.OUT_OF_MEMORY
                | Outcome.START_FAILED
                | Outcome.ATTEMPT_DEADLINE_EXCEEDED
            ):
                return Budget.FAILURES
            case Outcome.INTERRUPTED | Outcome.HOST_REBOOTED:
                return Budget.INTERRUPTIONS
            case Outcome.REGISTRY_UNAVAILABLE | Outcome.STARTUP_TIMEOUT | Outcome.HOST_LOST:
                return Budget.LAUNCH_ERRORS

    @property
    def container_stopped(self) -> bool:
        """The agent itself has said that no container runs (any more)."""
        match self:
            case (
                Outcome.SUCCEEDED
                | Outcome.CONTAINER_FAILED
                | Outcome.OUT_OF_MEMORY
                | Outcome.IMAGE_PULL_FAILED
                | Outcome.REGISTRY_UNAVAILABLE
                | Outcome.START_FAILED
            ):
                return True
            case (
                Outcome.ATTEMPT_DEADLINE_EXCEEDED
                | Outcome.STARTUP_TIMEOUT
                | Outcome.INTERRUPTED
                | Outcome.HOST_REBOOTED
                | Outcome.HOST_LOST
                | Outcome.NEVER_STARTED
                | Outcome.CANCELLED
            ):
                return False

    @property
    def final_reason(self) -> Reason:
        """The verdict's reason when no retry follows."""
        match self:
            case Outcome.SUCCEEDED:
                return Reason.CONTAINER_SUCCEEDED
            case Outcome.CONTAINER_FAILED | Outcome.START_FAILED:
                return Reason.CONTAINER_FAILED
            case Outcome.OUT_OF_MEMORY:
                return Reason.OUT_OF_MEMORY
            case Outcome.IMAGE_PULL_FAILED | Outcome.REGISTRY_UNAVAILABLE:
                return Reason.IMAGE_PULL_FAILED
            case Outcome.ATTEMPT_DEADLINE_EXCEEDED:
                return Reason.DEADLINE_EXCEEDED
            case Outcome.STARTUP_TIMEOUT | Outcome.NEVER_STARTED:
                return Reason.STARTUP_TIMEOUT
            case Outcome.INTERRUPTED | Outcome.HOST_REBOOTED:
                return Reason.INTERRUPTION_LIMIT_EXCEEDED
            case Outcome.HOST_LOST:
                return Reason.RESULT_LOST
            case Outcome.CANCELLED:
                return Reason.CANCELLED
