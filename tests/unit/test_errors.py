"""Every error has a cause with an exit code that is explained."""

import pickle

import pytest

from ptm_dist import errors


@pytest.mark.parametrize("kind", errors.PtmError.__subclasses__())
def test_each_cause_is_explained_and_found_again(kind):
    assert kind.exit_code in errors.EXIT_CODES
    assert type(errors.error_of(kind.exit_code, "x")).exit_code == kind.exit_code


@pytest.mark.parametrize("kind", errors.PtmError.__subclasses__())
def test_errors_survive_the_way_between_processes(kind):
    assert str(pickle.loads(pickle.dumps(kind("what, where, what to do")))) == "what, where, what to do"


def test_what_may_be_retried():
    assert {10, 11, 31, 60} == errors.RETRYABLE
