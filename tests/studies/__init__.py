"""Studies: comparisons that take an hour each, as commands that anybody runs again. None is part of the tests."""
