"""Who has which instance, and until when."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.ledger import Ledger
from spotjob.core.reasons import Outcome
from spotjob.core.states import Bound, Ended, InstanceState
from tests.builders import NOW, SECOND, a_job, after, an_instance, released

W = timedelta(seconds=300)


def a_ledger(*instances):
    ledger = Ledger(W)
    for instance in instances:
        ledger.saw(instance)
    return ledger


def free(instance_id="i-1", state="pending", age=0, shape="s"):
    return an_instance(instance_id, state, launch_time=NOW - age * SECOND, shape=shape)


def take(ledger, shape, key, now):
    """The instance that this job gets, or None."""
    return None if ledger.take(shape, [key], now) else ledger.offer_for(key, now)


def bound_to(name, instance_id="i-1"):
    job = after(a_job(name=name), Bound(an_instance(instance_id)))
    return job.key, job


def test_a_young_free_instance_of_the_shape_is_taken_once():
    ledger = a_ledger(free())
    assert take(ledger, "s", "batch/a", NOW).id == "i-1"
    assert take(ledger, "s", "batch/b", NOW) is None
    assert ledger.offer_for("batch/a", NOW).id == "i-1"


def test_another_shape_is_not_taken():
    assert take(a_ledger(free(shape="x")), "s", "batch/a", NOW) is None


def test_the_youngest_is_taken_first():
    assert take(a_ledger(free("i-old", age=100), free("i-young", age=5)), "s", "batch/a", NOW).id == "i-young"


def test_an_offer_ends_when_the_instance_is_too_old_to_bind():
    ledger = a_ledger(free())
    take(ledger, "s", "batch/a", NOW)
    assert ledger.offer_for("batch/a", NOW + 239 * SECOND) is not None
    assert ledger.offer_for("batch/a", NOW + 240 * SECOND) is None


def test_a_released_offer_is_free_again():
    ledger = a_ledger(free())
    take(ledger, "s", "batch/a", NOW)
    ledger.release("batch/a")
    assert take(ledger, "s", "batch/b", NOW).id == "i-1"


def test_an_instance_that_was_bound_serves_nobody_else_ever():
    ledger = a_ledger(free())
    key, job = bound_to("a")
    ledger.job_is(key, job)
    ledger.job_is(key, None)
    assert take(ledger, "s", "batch/b", NOW) is None


@given(age=st.integers(min_value=0, max_value=1000))
def test_no_instance_is_ever_both_bindable_and_reapable(age):
    ledger = a_ledger(free(age=age))
    bindable = take(ledger, "s", "batch/a", NOW) is not None
    ledger.release("batch/a")
    reapable = bool(ledger.reapable(NOW))
    assert not (bindable and reapable)
    assert bindable == (age < 240)
    assert reapable == (age > 360)


def test_what_a_live_attempt_names_is_not_reaped():
    ledger = a_ledger(free(age=1000))
    key, job = bound_to("a")
    ledger.job_is(key, job)
    assert ledger.reapable(NOW) == []
    ledger.job_is(key, after(job, Ended(Outcome.INTERRUPTED, "over")))
    assert [i.id for i in ledger.reapable(NOW)] == ["i-1"]


def test_two_live_attempts_on_one_instance_are_noticed():
    ledger = a_ledger(free())
    for name in ("a", "b"):
        ledger.job_is(*bound_to(name))
    assert ledger.contested("batch/a")
    assert ledger.needed_by_another("i-1", "batch/a")
    ledger.job_is("batch/b", None)
    assert not ledger.contested("batch/a")
    assert not ledger.needed_by_another("i-1", "batch/a")


def test_an_older_listing_does_not_bring_a_terminated_instance_back():
    ledger = a_ledger(free(state="running"))
    assert ledger.now_in("i-1", InstanceState.SHUTTING_DOWN)
    assert not ledger.saw(free(state="running"))
    assert ledger.state_of("i-1") is InstanceState.SHUTTING_DOWN


def test_one_empty_listing_does_not_make_an_instance_absent():
    ledger = a_ledger()
    key, job = bound_to("a")
    ledger.job_is(key, job)
    assert ledger.unlisted([]) == ["i-1"]
    assert not ledger.missed("i-1", NOW)
    assert not ledger.missed("i-1", NOW + 10 * SECOND)
    assert not ledger.missed("i-1", NOW + 299 * SECOND)
    assert ledger.state_of("i-1") is InstanceState.UNSEEN
    assert ledger.missed("i-1", NOW + 300 * SECOND)
    assert ledger.state_of("i-1") is InstanceState.ABSENT
    assert ledger.unlisted([]) == []


def test_a_sighting_starts_the_count_of_missed_listings_anew():
    ledger = a_ledger(free())
    for seconds in (0, 200, 290):
        ledger.missed("i-1", NOW + seconds * SECOND)
    ledger.saw(free())
    assert not ledger.missed("i-1", NOW + 400 * SECOND)


def test_a_released_job_needs_no_answer_about_its_instance():
    ledger = a_ledger()
    key, job = bound_to("a")
    ledger.job_is(key, released(after(job, Ended(Outcome.SUCCEEDED, "over", exit_code=0))))
    assert ledger.unlisted([]) == []


def test_dead_instances_that_nobody_names_are_forgotten():
    ledger = a_ledger(free("i-1", "terminated"), free("i-2", "terminated"))
    key, job = bound_to("a", "i-2")
    ledger.job_is(key, job)
    ledger.forget_the_dead()
    assert (ledger.get("i-1"), ledger.get("i-2").state) == (None, InstanceState.TERMINATED)


def test_what_another_job_names_is_no_longer_offered():
    ledger = a_ledger(free())
    take(ledger, "s", "batch/a", NOW)
    ledger.job_is(*bound_to("b"))
    assert ledger.offer_for("batch/a", NOW) is None
    assert ledger.reapable(NOW + 1000 * SECOND) == []


def test_a_repeated_answer_does_not_bring_an_instance_that_another_job_has():
    ledger = a_ledger(free("i-1", "running"))
    assert ledger.launched(free("i-2"), NOW)
    take(ledger, "s", "batch/a", NOW)
    take(ledger, "s", "batch/b", NOW)
    assert not ledger.launched(free("i-1"), NOW)
    assert ledger.state_of("i-1") is InstanceState.RUNNING


def test_a_second_offer_frees_the_first():
    ledger = a_ledger(free("i-1"), free("i-2"))
    ledger.reserve(free("i-1"), "batch/a")
    ledger.reserve(free("i-2"), "batch/a")
    assert take(ledger, "s", "batch/b", NOW).id == "i-1"


def test_nothing_is_kept_of_instances_that_nobody_names_or_lists():
    ledger = a_ledger(free("i-1", "terminated"))
    key, job = bound_to("a")
    over = after(job, Ended(Outcome.SUCCEEDED, "over", exit_code=0))
    ledger.job_is(key, over)
    ledger.missed("i-9", NOW)
    ledger.job_is(key, released(over))
    ledger.forget_the_dead()
    ledger.job_is(key, released(over))
    ledger.forget_the_dead()
    assert (ledger._spent, ledger._missing) == (set(), {})
