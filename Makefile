# The same without make: python3 run.py demo

PYTHON ?= python3
ARGS ?=

.PHONY: demo test check bench faults fuzz soak

# make demo TOUR_ONLY=1 ends after the tour
demo:
	@"$(PYTHON)" run.py demo $(if $(filter-out 0,$(TOUR_ONLY)),--tour-only) $(ARGS)

# make test ARGS="-k uow"
test check bench faults fuzz soak:
	@"$(PYTHON)" run.py $@ $(ARGS)
