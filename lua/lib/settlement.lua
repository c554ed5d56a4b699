-- settlement: may this reservation still be settled?
--
-- settlement_refusal(state, expires, grace)  the code that refuses a commit or a release, or nil;
--   `expires` as it is stored, `grace` a text. Both count until expiry + grace, inclusive.
local function settlement_refusal(state, expires, grace)
  if state == 'COMMITTED' or state == 'RELEASED' then return 'RESERVATION_FINALIZED' end
  local last = tonumber(expires) and tonumber(grace)
  if not last then return 'CORRUPT_RESERVATION' end
  if state ~= 'ACTIVE' or now > tonumber(expires) + last then return 'RESERVATION_EXPIRED' end
  return nil
end
