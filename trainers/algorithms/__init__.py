"""One page an algorithm: its networks, its loss, its timetable."""
