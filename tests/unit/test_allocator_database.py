"""What an error of the database means, by its number."""

import pymysql
import pytest
from sqlalchemy import exc

from allocator.database import is_away, is_retriable


def raised(number: int, kind: type[pymysql.Error] = pymysql.err.OperationalError) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", {}, kind(number, "text"))


@pytest.mark.parametrize("number", [1020, 1205, 1213, 1317, 1412, 3101])
def test_a_conflict_is_tried_again_and_an_outage_where_it_stays(number: int):
    assert is_retriable(raised(number))
    assert is_away(raised(number))


@pytest.mark.parametrize("number", [0, 1047, 1053, 1290, 1836, 1927, 2006, 2013, 2055, 3100, 4031, 9001])
def test_a_lost_connection_and_a_server_that_stepped_down_are_tried_again_elsewhere(number: int):
    assert is_retriable(raised(number))
    assert is_away(raised(number))


@pytest.mark.parametrize("number", [1021, 1026, 1040, 1114, 1180, 2002, 2003, 2005])
def test_a_server_that_cannot_be_reached_or_has_no_space_is_waited_for(number: int):
    assert not is_retriable(raised(number))
    assert is_away(raised(number))


def test_a_duplicate_is_tried_again_but_no_outage():
    error = raised(1062, pymysql.err.IntegrityError)
    assert is_retriable(error)
    assert not is_away(error)


def test_a_pool_without_a_free_connection_is_an_outage():
    assert is_away(exc.TimeoutError("QueuePool limit reached"))


@pytest.mark.parametrize("number", [1054, 1064, 1146, 1366, 1406, 1451])
def test_what_is_wrong_with_a_statement_is_neither(number: int):
    error = raised(number, pymysql.err.ProgrammingError)
    assert not is_retriable(error)
    assert not is_away(error)


def test_an_error_of_our_own_is_neither():
    assert not is_retriable(ValueError(1213))
    assert not is_away(ValueError(2013))
