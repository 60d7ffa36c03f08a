"""Whether servers are fit for sessions: probes ask, `track` decides, `monitor` schedules."""
