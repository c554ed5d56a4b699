-- defaults: what counts where a request, a record and a tenant say nothing. auth/records.py has the
-- same for Python.
local DEFAULT_MAX_EXTENSIONS = 10
local DEFAULT_OVERAGE_POLICY = 'ALLOW_IF_AVAILABLE'
