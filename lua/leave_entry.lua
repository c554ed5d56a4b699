#!lua
-- leave_entry: an audit entry of a call that changed nothing.
--
-- KEYS  the head (see lib/mutation)
-- ARGV  the head, of which only the entry counts
-- Answers
--   OK
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local damaged = audit_damaged()
if damaged then return damaged end

leave_trace('', '')
return {'OK'}
