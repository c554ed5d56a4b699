-- closed: what the scripts of a tenant's close share. They run for no caller, on a tenant that is
-- closed, and leave an entry for each object that they end.
--
-- still_open()  the refusal for a tenant that is not closed
-- leave_entry(kind, resource_type, resource_id, facts)  `facts`: members of its metadata as JSON
local function still_open()
  local readable, fields = pcall(cjson.decode, redis.call('GET', tenant_record) or '')
  if readable and type(fields) == 'table' and fields.status == 'CLOSED' then return nil end
  return {'ERROR', 'TENANT_OPEN'}
end

local function leave_entry(kind, resource_type, resource_id, facts)
  -- Made from what it tells of, which happens once.
  local id = 'log_' .. string.sub(redis.sha1hex(kind .. ':' .. resource_id .. ':' .. ms(now)), 1, 16)
  write_entry(audit_prefix .. id, {audit_of_tenant, audit_of_all}, id,
    '"operation":"' .. kind .. '","resource_type":"' .. resource_type .. '","resource_id":'
    .. cjson.encode(resource_id) .. ',"status":200,' .. audit_members
    .. ',"metadata":{"cascade":"tenant_close","cascade_reason":"tenant_closed",' .. facts .. '}',
    audit_kept_ms)
end
