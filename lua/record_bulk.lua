#!lua
-- record_bulk: keep what a bulk action is answered with, and leave its audit entry.
--
-- KEYS  the head (see lib/mutation), answer_record
-- ARGV  the head; answer; kept_ms
-- Answers
--   OK
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local answer_record = unpack(KEYS, HEAD_KEYS + 1)
local answer, kept_ms = unpack(ARGV, HEAD_ARGUMENTS + 1)

local damaged = audit_damaged()
if damaged then return damaged end
redis.call('SET', answer_record, answer, 'PX', kept_ms)
leave_trace('', '')
return {'OK'}
