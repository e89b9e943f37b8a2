import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { startWriteSite, type WriteSite } from './write-site.ts'

interface Service extends HttpListener {
  readonly seen: { method: string; url: string; headers: Record<string, unknown>; body: string }[]
  status: number
}

async function startService(name: string): Promise<Service> {
  const seen: Service['seen'] = []
  const listener = await listenHttp((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text
    })
    request.on('end', () => {
      seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
      if (service.status === 0) response.destroy()
      else
        response
          .writeHead(service.status, { 'x-said-by': name, 'www-authenticate': 'Basic' })
          .end(`{"token":"${name}"}`)
    })
  })
  const service: Service = { ...listener, seen, status: 200 }
  return service
}

let first: Service
let second: Service
let site: WriteSite
beforeEach(async () => {
  first = await startService('first')
  second = await startService('second')
  // Neither of them is on the primary's origin.
  site = await startWriteSite('http://127.0.0.1:1', {
    tokenServices: [`${first.url}/jwt/auth`, `${second.url}/jwt/auth`],
    publicUrl: 'https://registry.example.com',
  })
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await first[Symbol.asyncDispose]()
  await second[Symbol.asyncDispose]()
})

const PULL = 'service=container_registry&scope=repository%3Ateam%2Fapp%3Apull&account=u'
const login = { authorization: 'Basic dTpw' }
const ask = (query: string) => site.api.request('GET', `/jwt/auth?${query}`, { headers: login })
const post = (body: string) =>
  site.api.request('POST', '/jwt/auth', {
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body,
  })

describe('/jwt/auth', () => {
  it('asks the first service with the very words and login of the client', async () => {
    const answer = await ask(`${PULL}&x=%2B+y`)

    expect(answer).toMatchObject({ status: 200, headers: { 'x-said-by': 'first' } })
    expect(answer.body.toString()).toBe('{"token":"first"}')
    expect(first.seen[0]).toMatchObject({ method: 'GET', url: `/jwt/auth?${PULL}&x=%2B+y` })
    expect(first.seen[0]?.headers).toMatchObject({
      authorization: login.authorization,
      host: new URL(first.url).host,
      'x-forwarded-proto': 'https',
    })
    expect(first.seen[0]?.headers['x-forwarded-for']).toMatch(/127\.0\.0\.1$/)
    expect(second.seen).toEqual([])
  })

  it.each([
    ['one scope for pull', PULL],
    ['several scopes for pull in one parameter', 'scope=repository:a:pull%20repository:b:pull'],
    ['several parameters for pull', 'scope=repository:a:pull&scope=repository:b:pull'],
    ['a repository behind a host and port', 'scope=repository:localhost:5000/a:pull'],
    ['no scope: a login', 'service=container_registry&account=u'],
  ])('asks the second service while the first is away: %s', async (_, query) => {
    await first.stop()
    expect((await ask(query)).headers['x-said-by']).toBe('second')
    await first.start()
    first.status = 503
    expect((await ask(query)).headers['x-said-by']).toBe('second')
    first.status = 0
    expect((await ask(query)).headers['x-said-by']).toBe('second')
    expect(second.seen.map(({ headers }) => headers['authorization'])).toEqual(
      Array(3).fill(login.authorization),
    )
  })

  it.each([
    ['push', 'scope=repository:a:pull,push'],
    ['delete', 'scope=repository:a:delete'],
    ['everything', 'scope=registry:catalog:*'],
    ['a push hidden behind a pull in one parameter', 'scope=repository:a:pull%20repository:b:push'],
    ['a push hidden in a second parameter', 'scope=repository:a:pull&scope=repository:b:push'],
    ['what cannot be read as a scope', 'scope=repository:a:pull;push'],
    ['an encoded parameter name', '%73cope=repository:a:push'],
  ])('never asks the second service for %s', async (_, query) => {
    first.status = 502

    const answer = await ask(query)

    expect(answer.status).toBe(503)
    expect(answer.body.toString()).toContain('UNAVAILABLE')
    expect(answer.headers['retry-after']).toMatch(/^\d+$/)
    expect(second.seen).toEqual([])
  })

  it.each([400, 401, 403, 404, 429])('takes %i for the word of the first service', async (status) => {
    first.status = status

    const answer = await ask(PULL)

    expect(answer).toMatchObject({ status, headers: { 'x-said-by': 'first', 'www-authenticate': 'Basic' } })
    expect(second.seen).toEqual([])
  })

  it('reads the scopes of a form, and sends it on as it came', async () => {
    const form = 'grant_type=password&username=u&password=p%2Bq&scope=repository:a:pull'
    first.status = 500

    expect((await post(form)).headers['x-said-by']).toBe('second')
    expect([first.seen[0]?.body, second.seen[0]?.body]).toEqual([form, form])

    expect((await post(form.replace(':pull', ':pull,push'))).status).toBe(503)
    expect(second.seen).toHaveLength(1)
  })

  it('refuses a form over 64 KiB without asking anybody', async () => {
    expect((await post(`scope=${'a'.repeat(65_536)}`)).status).toBe(413)
    expect(first.seen).toEqual([])
  })

  it('says 503 while every service is away', async () => {
    await first.stop()
    await second.stop()

    const answer = await ask(PULL)

    expect(answer.status).toBe(503)
    expect(answer.body.toString()).toContain('UNAVAILABLE')
  })

  it('is not found where no service is configured', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite('http://127.0.0.1:1')

    expect((await ask(PULL)).status).toBe(404)
  })
})
