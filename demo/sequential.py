"""Fetch one URL after another."""

from fetching import Job, measure

job = Job.from_command_line()
measure(job, lambda urls: map(job.fetch, urls))
