#!lua
-- replace_record: write a changed JSON record, unless somebody else has changed it meanwhile.
--
-- KEYS  the head (see lib/mutation), record
-- ARGV  the head; expected: the record as it was read; replacement
-- Answers
--   OK
--   CHANGED       it is not what was read; nothing was done
--   STALE         the credential must be read again
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local record = unpack(KEYS, HEAD_KEYS + 1)
local expected, replacement = unpack(ARGV, HEAD_ARGUMENTS + 1)

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if redis.call('GET', record) ~= expected then return {'CHANGED'} end

redis.call('SET', record, replacement)
leave_trace('', '')
return {'OK'}
