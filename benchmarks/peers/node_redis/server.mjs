/*
 * Node.js and Redis: one Lua script per POST, one look-up per count.
 *
 * fastify checks bodies and formats answers by schemas; ioredis sends all commands of one turn of the event
 * loop as one pipeline, so that Redis syncs once for all of them.
 */

import { readFileSync } from 'node:fs'

import fastify from 'fastify'
import { Redis } from 'ioredis'
import { Packr } from 'msgpackr'

const { BENCH_REDIS: path, BENCH_PORT: port } = process.env

const ITEMS = {
  type: 'array',
  items: {
    type: 'object',
    required: ['ID', 'tenant'],
    properties: {
      // JSON.parse rounds larger numbers to doubles, and two IDs could become one: refused, not miscounted.
      ID: { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      tenant: { type: 'string', minLength: 1, maxLength: 256 },
      lastUpdateDt: { type: 'string', format: 'date-time', nullable: true }
    }
  }
}
const STORED = { type: 'object', properties: { status: { type: 'string' }, items: { type: 'integer' } } }
const COUNTED = { type: 'object', properties: { counter: { type: 'integer' }, tenant: { type: 'string' } } }

const redis = new Redis({ path, enableAutoPipelining: true })
const script = readFileSync(new URL('../store.lua', import.meta.url), 'utf8')
redis.defineCommand('store', { numberOfKeys: 0, lua: script })

const packr = new Packr({ useRecords: false })
const app = fastify({
  logger: false,
  bodyLimit: 2 ** 24,
  // A tenant of 256 characters, all of them percent-encoded.
  routerOptions: { maxParamLength: 256 * 12 },
  ajv: { customOptions: { coerceTypes: false } }
})

// Like the other peers, whatever the Content-Type.
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', { parseAs: 'string' }, (request, body, done) => {
  try {
    done(null, JSON.parse(body))
  } catch (error) {
    error.statusCode = 400
    done(error)
  }
})

app.setErrorHandler((error, request, reply) => {
  reply.code(error.validation ? 422 : error.statusCode ?? 500).send({ error: error.message })
})

app.post('/items', { schema: { body: ITEMS, response: { 200: STORED } } }, async (request, reply) => {
  const items = request.body
  const ids = new Array(items.length)
  const tenants = new Array(items.length)
  const stamps = new Array(items.length)
  const now = text(tick())
  for (let i = 0; i < items.length; i++) {
    const item = items[i]
    ids[i] = String(item.ID)
    tenants[i] = item.tenant
    stamps[i] = item.lastUpdateDt ? text(microseconds(item.lastUpdateDt)) : now
  }
  await redis.store(packr.pack([ids, tenants, stamps]))
  return { status: 'OK', items: items.length }
})

app.get('/items/:tenant/count', { schema: { response: { 200: COUNTED } } }, async (request, reply) => {
  const { tenant } = request.params
  return { counter: Number(await redis.hget('counts', tenant) ?? 0), tenant }
})

let last = 0

/** Now, in microseconds since 1970, and never the same twice: what arrives later is newer. */
function tick() {
  last = Math.max(Date.now() * 1000, last + 1)
  return last
}

function microseconds(moment) {
  const ms = Date.parse(moment)
  if (!(ms >= 0)) {
    // Before 1970, or a leap second, which the schema takes and Date does not.
    throw Object.assign(new RangeError(`no moment since 1970: ${moment}`), { statusCode: 422 })
  }
  // Date drops what is finer; a fraction begins behind the 19 characters of the seconds.
  const finer = /^.{19}\.\d{3}(\d{1,3})/.exec(moment)
  return ms * 1000 + (finer ? Number(finer[1].padEnd(3, '0')) : 0)
}

/** Nanoseconds in the 19 digits that the script compares. */
function text(us) {
  return String(us).padStart(16, '0') + '000'
}

await app.listen({ port: Number(port), host: '127.0.0.1' })
