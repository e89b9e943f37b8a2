/** The README's table of outages, the rows in which the primary gives no answer that could be believed (law 5). */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ociError } from '../support/lies.ts'
import { startNginx } from '../support/nginx.ts'
import { pushImage } from '../support/push-image.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { NAME, type RealPrimarySite, startWithLyingPrimary, startWithRealPrimary } from './outage-site.ts'
import { askEverything, cell, LOGINS_AS_EVER, messageOf, type Row, writes } from './table-row.ts'

const HELD = {
  'pull by tag': '200 stale, Warning',
  'pull by digest': '200 local',
  'pull of a layer': '200 local',
  'then, by tag': '200 stale, Warning',
  'then, by digest': '200 local',
} as const

function misses(answer: string): Pick<Row, 'miss: manifest' | 'miss: layer' | 'list of tags'> {
  return { 'miss: manifest': answer, 'miss: layer': answer, 'list of tags': answer }
}

/** With GitLab as the primary its tokens come from the machines that are away. */
const LOGINS_AT_THE_SITE = {
  login: '200 of the site’s',
  'token to pull': '200 of the site’s',
  'token to push': '503 UNAVAILABLE, Retry-After 10',
} as const

const UNREACHABLE: Row = {
  ...HELD,
  ...misses('503 UNAVAILABLE, Retry-After 10'),
  ...writes('503 UNAVAILABLE, Retry-After 10'),
  ...LOGINS_AT_THE_SITE,
}

/**
 * The breaker closes by itself, and from then on a pull by tag shows what the primary has. What that is cannot be told
 * before: a primary that was frozen may have taken the push that timed out, or the delete, or the delete alone.
 */
async function expectFreshAgain({ reader, elsewhere, cold }: RealPrimarySite): Promise<void> {
  const pulled: string[] = []
  const isFresh = async () => {
    pulled.push(cell(await reader.getManifest(NAME, 'v1')))
    return /^(200 (local|fill)|404 MANIFEST_UNKNOWN)$/.test(pulled.at(-1) ?? '')
  }
  try {
    await until(isFresh, { what: 'the primary’s return to be noticed', deadlineMs: 40_000 })
  } catch (cause) {
    throw new Error(`the last pulls were answered ${pulled.slice(-5)}`, { cause })
  }
  await pushImage(elsewhere, NAME, 'v1', cold)
  expect(cell(await reader.getManifest(NAME, 'v1'), cold.digest)).toMatch(/^200 (local|fill)$/)
}

/** What the site sees of a primary and its token service that do not run: whatever runs behind the links, nothing listens. */
function refuseConnections({ link, tokenLink }: RealPrimarySite): void {
  for (const one of [link, tokenLink]) {
    one.refuse()
    one.cut()
  }
}

/** Milliseconds until a pull of the held tag was answered stale. */
async function timeOfStalePull({ reader, held }: RealPrimarySite): Promise<number> {
  const startedAt = performance.now()
  expect(cell(await reader.getManifest(NAME, 'v1'), held.digest)).toBe('200 stale, Warning')
  return performance.now() - startedAt
}

// Each has a site of its own.
describe.concurrent('while the primary', () => {
  it('is stopped, what is held is served, tokens to pull come from the site, and the rest is 503', async () => {
    await using sites = await startWithRealPrimary()

    refuseConnections(sites)
    expect(await askEverything(sites)).toEqual(UNREACHABLE)

    await Promise.all([sites.link.accept(), sites.tokenLink.accept()])
    await expectFreshAgain(sites)
  })

  it('is stopped, a 503 says what still works', async () => {
    await using sites = await startWithRealPrimary()
    refuseConnections(sites)

    const miss = await sites.reader.getManifest(NAME, 'cold')
    const push = await sites.developer.startUpload(NAME)
    const login = await sites.anonymous.request('GET', '/jwt/auth?scope=repository:team/app:pull,push')

    expect(messageOf(miss)).toBe(
      'the primary registry cannot be reached and this is not held on this site: try again later',
    )
    expect(messageOf(push)).toBe(
      'the primary registry cannot be reached, and every write goes there: try again later; pulls of what this site holds still work',
    )
    expect(messageOf(login)).toBe(
      'no token service can be reached: tokens issued before keep working until they expire',
    )
  })

  it('stops behind a balancer that resets connections, it is as if it were stopped, and the return shows at once', async () => {
    await using sites = await startWithRealPrimary()

    await sites.primary.stop()
    expect(await askEverything(sites)).toEqual({ ...UNREACHABLE, ...LOGINS_AS_EVER })

    await sites.primary.start()
    expect(cell(await sites.reader.getManifest(NAME, 'v1'), sites.held.digest)).toBe('200 local')
  })

  it('answers 500, what is held is served, a miss is 503, and a write gets the 500', async () => {
    await using sites = await startWithLyingPrimary()

    const recover = sites.primary.lie('*', /./, ociError(500, 'UNKNOWN'))
    expect(await askEverything(sites)).toEqual({
      ...HELD,
      ...misses('503 UNAVAILABLE, Retry-After 10'),
      ...writes('500 UNKNOWN'),
      ...LOGINS_AS_EVER,
    })

    recover()
    // It had taken the push whose answer was the 500.
    expect(cell(await sites.reader.getManifest(NAME, 'v1'), sites.cold.digest)).toBe('200 fill')
  })

  it('is an ingress’s HTML 404, what is held is served, nothing is taken for absent, and a miss is 502', async () => {
    await using folder = await tempFolder('ingress')
    const unrouted = join(folder.path, 'unrouted')
    await using sites = await startWithRealPrimary(async ({ url }, owned) => {
      const server = { proxyTo: url, extra: `open_file_cache off; if (-f ${unrouted}) { return 404; }` }
      return owned.use(await startNginx({ servers: [server] })).url
    })

    await writeFile(unrouted, '')
    expect(await askEverything(sites)).toEqual({
      ...HELD,
      ...misses('502 BAD_GATEWAY'),
      ...writes('404 text/html'),
      ...LOGINS_AS_EVER,
    })
    expect(messageOf(await sites.reader.getManifest(NAME, 'cold'))).toBe(
      'the primary registry gave an answer that cannot be used',
    )

    await rm(unrouted)
    await expectFreshAgain(sites)
  })
})

// One after the other: they tell how long a pull takes.
describe('while the primary', () => {
  it('is black-holed, one pull of a held tag waits less than a second and the next ones not at all', async () => {
    await using sites = await startWithRealPrimary()

    sites.link.blackhole()
    sites.tokenLink.blackhole()
    // The product's own figures are 1 s and 10 ms, and the bench's to show: here the machine may be busy.
    expect(await timeOfStalePull(sites)).toBeLessThan(1500)
    expect(await timeOfStalePull(sites)).toBeLessThan(250)
    expect(await askEverything(sites)).toEqual(UNREACHABLE)

    sites.link.resume()
    sites.tokenLink.resume()
    await expectFreshAgain(sites)
  })

  it('accepts and never answers because it is frozen, it is as if it were black-holed', async () => {
    await using sites = await startWithRealPrimary()

    sites.primary.freeze()
    expect(await timeOfStalePull(sites)).toBeLessThan(1500)
    expect(await timeOfStalePull(sites)).toBeLessThan(250)
    expect(await askEverything(sites)).toEqual({ ...UNREACHABLE, ...LOGINS_AS_EVER })

    sites.primary.thaw()
    await expectFreshAgain(sites)
  })
})
