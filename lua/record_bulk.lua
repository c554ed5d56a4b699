#!lua
-- record_bulk: keep what a bulk action is answered with, and leave its audit entry; its plan is over.
--
-- KEYS  the head (see lib/mutation), answer_record, plan_record
-- ARGV  the head; answer; kept_ms
-- Answers
--   OK
--   EXISTS, answer   it was answered before; nothing was done
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local answer_record, plan_record = unpack(KEYS, HEAD_KEYS + 1)
local answer, kept_ms = unpack(ARGV, HEAD_ARGUMENTS + 1)

-- Of two that work on one plan, because the first was taken for dead, the first to end answers.
local first = redis.call('GET', answer_record)
if first then return {'EXISTS', first} end
local damaged = audit_damaged()
if damaged then return damaged end
redis.call('SET', answer_record, answer, 'PX', kept_ms)
redis.call('DEL', plan_record)
leave_trace('', '')
return {'OK'}
