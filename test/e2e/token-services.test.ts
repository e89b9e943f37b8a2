/** Several token services behind the site's one URL: pulls outlive the first, however it is away. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { fetchToken } from '../support/login.ts'
import { startTokenService, type TokenService } from '../support/token-service.ts'
import { until } from '../support/wait.ts'
import { type OneSite, startOneSite } from './one-site.ts'

const USER = { username: 'reader', password: 'may pull' }
const PULL = ['repository:team/app:pull']
let first: TokenService
let second: TokenService
let link: Link
let one: OneSite

beforeAll(async () => {
  const users = [{ name: USER.username, password: USER.password, repositories: { 'team/*': ['pull'] } }]
  const key = await signingKey()
  first = await startTokenService({ key, users })
  second = await startTokenService({ key, users })
  link = await startLink({ target: first.realm })
  one = await startOneSite('http://127.0.0.1:1', {
    auth: { token: { services: [`${link.url}/jwt/auth`, second.realm] } },
  })
})
afterAll(async () => {
  for (const part of [one, link, second, first]) await part[Symbol.asyncDispose]()
})

/** Milliseconds until the site brought a token to pull. */
async function timeOfLogin(): Promise<number> {
  const startedAt = performance.now()
  await fetchToken({ realm: `${one.site.url}/jwt/auth`, service: first.service }, PULL, USER)
  return performance.now() - startedAt
}

const asked = () => [first.requests.length, second.requests.length]

describe('a token to pull', () => {
  it('comes from the first service while that answers', async () => {
    await timeOfLogin()

    expect(asked()).toEqual([1, 0])
  })

  it('waits once for a first service that never answers, then comes from the second at once, until the first is back', async () => {
    link.blackhole()
    // A client gives up after 15 or 30 s, and would ask for a token for every pull.
    expect(await timeOfLogin()).toBeLessThan(8000)
    expect(await timeOfLogin()).toBeLessThan(1500)
    expect(asked()).toEqual([1, 2])

    link.resume()
    const isBack = async () => {
      await timeOfLogin()
      return asked()[0] === 2
    }
    await until(isBack, { what: 'the first service to be asked again', deadlineMs: 20_000, everyMs: 500 })
  })
})
