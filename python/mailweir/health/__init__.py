"""Whether servers are fit for sessions: probes ask, `fsm` decides, `monitor` schedules."""
