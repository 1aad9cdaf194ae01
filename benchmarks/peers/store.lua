-- Stores the items of one POST: a list of IDs, one of tenants, one of stamps, as one msgpack text.
--
-- Lua's numbers are doubles, too short for an ID or a stamp: both are texts, and the stamps' order is
-- that of their 19 digits. An item's value is its stamp, then its tenant: the larger value wins.
local batch = cmsgpack.unpack(ARGV[1])
local ids, tenants, stamps = batch[1], batch[2], batch[3]
local changes = {}
for first = 1, #ids, 1000 do
    local last = math.min(first + 999, #ids)
    local stored = redis.call('HMGET', 'items', unpack(ids, first, last))
    local new = {}
    for i = first, last do
        local tenant = tenants[i]
        local value = stamps[i] .. tenant
        local before = new[ids[i]] or stored[i - first + 1]
        if not before or value > before then
            new[ids[i]] = value
            changes[tenant] = (changes[tenant] or 0) + 1
            if before then
                local loser = before:sub(20)
                changes[loser] = (changes[loser] or 0) - 1
            end
        end
    end
    local fields = {}
    for id, value in pairs(new) do
        fields[#fields + 1] = id
        fields[#fields + 1] = value
    end
    if #fields > 0 then
        redis.call('HSET', 'items', unpack(fields))
    end
end
for tenant, change in pairs(changes) do
    if change ~= 0 then
        redis.call('HINCRBY', 'counts', tenant, change)
    end
end
