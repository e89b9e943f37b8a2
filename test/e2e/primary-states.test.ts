/** The README's table of outages, the rows in which the primary answers: as ever, or with a refusal of its own. */
import { describe, expect, it } from 'vitest'
import { maintenance, renameInProgress, tooManyRequests } from '../support/lies.ts'
import type { Lie } from '../support/lying-primary.ts'
import { type LyingPrimarySite, NAME, startWithLyingPrimary, startWithRealPrimary } from './outage-site.ts'
import { askEverything, cell, LOGINS_AS_EVER, NOTHING_CHANGED, READS_AS_EVER, writes } from './table-row.ts'

/** Every write gets the lie, and what the honest half of the primary made of it is undone. */
function refuseWrites({ primary, held }: LyingPrimarySite, lie: Lie): void {
  const refuse: Lie = async (ask) => {
    await primary.hold(NAME, held, 'v1')
    await lie(ask)
  }
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) primary.lie(method, /./, refuse)
}

// Each has a site of its own.
describe.concurrent('while the primary', () => {
  it('runs, pulls come from here or through here, and writes are its own', async () => {
    await using sites = await startWithRealPrimary()

    expect(await askEverything(sites)).toEqual({
      ...READS_AS_EVER,
      'push: layer': '202 primary',
      'push: manifest': '201 primary',
      delete: '202 primary',
      // What was pushed and deleted here shows at once.
      'then, by tag': '200 local',
      'then, by digest': '404 MANIFEST_UNKNOWN',
      ...LOGINS_AS_EVER,
    })
  })

  it('is read-only, writes get its 405 and pulls know nothing of it', async () => {
    await using sites = await startWithRealPrimary()

    await sites.primary.restart({ readonly: true })
    expect(await askEverything(sites)).toEqual({
      ...READS_AS_EVER,
      ...writes('405 text/plain'),
      ...NOTHING_CHANGED,
      ...LOGINS_AS_EVER,
    })

    expect((await sites.developer.startUpload(NAME)).body.toString()).toBe('Method not allowed\n')

    await sites.primary.restart({ readonly: false })
    expect(cell(await sites.developer.startUpload(NAME))).toBe('202 primary')
  })

  it('renames the repository, writes get its 409 and pulls know nothing of it', async () => {
    await using sites = await startWithLyingPrimary()

    refuseWrites(sites, renameInProgress())
    expect(await askEverything(sites)).toEqual({
      ...READS_AS_EVER,
      ...writes('409 RENAME_IN_PROGRESS'),
      ...NOTHING_CHANGED,
      ...LOGINS_AS_EVER,
    })
  })

  it('is a GitLab in maintenance mode, which gives no token to push: the site asks for one with a 401', async () => {
    await using sites = await startWithRealPrimary()

    sites.tokens.maintenance = true
    expect(await askEverything(sites, sites.newDeveloper)).toEqual({
      ...READS_AS_EVER,
      ...writes('401 UNAUTHORIZED'),
      ...NOTHING_CHANGED,
      ...LOGINS_AS_EVER,
    })
    const refused = await sites.newDeveloper.startUpload(NAME)
    expect(refused.headers['www-authenticate']).toBe(
      `Bearer realm="${sites.site.url}/jwt/auth",service="container_registry",scope="repository:team/app:pull,push",error="insufficient_scope"`,
    )
  })

  it('denies every write itself, its 403 is passed on and pulls know nothing of it', async () => {
    await using sites = await startWithLyingPrimary()

    refuseWrites(sites, maintenance())
    expect(await askEverything(sites)).toEqual({
      ...READS_AS_EVER,
      ...writes('403 DENIED'),
      ...NOTHING_CHANGED,
      ...LOGINS_AS_EVER,
    })
  })

  it.each([
    ['how long to wait', '7', 'Retry-After 7'],
    ['nothing of how long', undefined, 'Retry-After 10'],
  ])(
    'limits requests and says %s, a held tag is served stale and a miss is told to wait',
    async (_says, given, told) => {
      await using sites = await startWithLyingPrimary()

      const recover = sites.primary.lie('*', /./, async (ask) => {
        await sites.primary.hold(NAME, sites.held, 'v1')
        await tooManyRequests(given)(ask)
      })
      expect(await askEverything(sites)).toEqual({
        'pull by tag': '200 stale, Warning',
        'pull by digest': '200 local',
        'pull of a layer': '200 local',
        'miss: manifest': `429 TOOMANYREQUESTS, ${told}`,
        'miss: layer': `429 TOOMANYREQUESTS, ${told}`,
        'list of tags': `429 TOOMANYREQUESTS, ${told}`,
        // A write's answer is the primary's to the letter.
        ...writes(given === undefined ? '429 TOOMANYREQUESTS' : `429 TOOMANYREQUESTS, ${told}`),
        'then, by tag': '200 stale, Warning',
        'then, by digest': '200 local',
        ...LOGINS_AS_EVER,
      })

      recover()
      expect(cell(await sites.reader.getManifest(NAME, 'v1'), sites.held.digest)).toBe('200 local')
    },
  )
})
