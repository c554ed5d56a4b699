#!lua
-- replace_record: write a changed JSON record, unless somebody else has changed it meanwhile.
--
-- KEYS  the head (see lib/mutation), record, row_record (where a bulk action notes a row as done; any
--         key of the tenant's for a change by itself)
-- ARGV  the head; expected: the record as it was read; replacement; row_kept_ms: '0' for a change by
--         itself
-- Answers
--   OK
--   CHANGED       it is not what was read; nothing was done
--   STALE         the credential must be read again
--   ERROR, code
-- @include clock
-- @include instants
-- @include audit
-- @include mutation
local record, row_record = unpack(KEYS, HEAD_KEYS + 1)
local expected, replacement, row_kept_ms = unpack(ARGV, HEAD_ARGUMENTS + 1)

if credential_stale() then return {'STALE'} end
local refused = owner_refuses() or audit_damaged()
if refused then return refused end
if redis.call('GET', record) ~= expected then return {'CHANGED'} end

redis.call('SET', record, replacement)
if row_kept_ms ~= '0' then redis.call('SET', row_record, '1', 'PX', row_kept_ms) end
leave_trace('', '')
return {'OK'}
