/** `status` and `explain` as a person and a script see them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { COUNTS, digest, HEALTHY, NOW_MS, name, reportOf } from '../status/fake-control.ts'
import { runningSite } from './running-site.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')

const IN_STEP = `                        Geo Site Information
--------------------------------------------
                                      Name: tokyo
                                       URL: https://registry.example.com
                                   Primary: https://primary.example.com
                                  Geo Role: Secondary
                             Health Status: Healthy
          This Site's geo-registry Version: 1.2.3

                     Replication Information
--------------------------------------------
                             Sync Settings: Full
                           Replication lag: 0 seconds
           Last event ID seen from primary: 12345 (2 min ago)
                   Last event ID processed: 12345 (1 min 30 s ago)
                            Events pending: 0
                                      Jobs: 1 running, 0 waiting
                       Last reconciliation: 30 min ago, the oldest comparison 20 h (of 1 d)
                                     Brake: released
                    Last status report was: just now

                          Replication Status
--------------------------------------------
         Container Repositories replicated: succeeded 2 / total 2 (100%)
                                      Tags: 30, 0 failing
          Repositories that need attention: 0
                               Outstanding: 0 blobs, 0 B

                         Verification Status
--------------------------------------------
           Container Repositories verified: succeeded 2 / total 2 (100%)

                                     Serving
--------------------------------------------
                                     Reads: local 9,000, fill 5, primary 4, stale 1 (since 2026-11-22T06:00:00.000Z)
                               Bytes saved: 3.0 GiB
                                     Store: 10.0 GiB, 1.0 TiB free of 2.0 TiB
                           Primary answers: yes

In step with the primary as of 2026-11-22T05:00:00.000Z.
`

const BROKEN = `                        Geo Site Information
--------------------------------------------
                                      Name: tokyo
                                       URL: https://registry.example.com
                                   Primary: https://primary.example.com
                                  Geo Role: Secondary
                             Health Status: Unhealthy
          This Site's geo-registry Version: 1.2.3

                     Replication Information
--------------------------------------------
                             Sync Settings: Full
                           Replication lag: 91 seconds
           Last event ID seen from primary: 12345 (2 min ago)
                   Last event ID processed: 12000 (2 min ago)
                            Events pending: 345
                                      Jobs: paused, 0 running, 1,500 waiting
                       Last reconciliation: none yet
                                     Brake: tripped 2 h ago: 120 repositories, 1 tag waiting
                    Last status report was: just now

                          Replication Status
--------------------------------------------
         Container Repositories replicated: failed 2 / succeeded 995 / total 1000 (99%)
                                      Tags: 30, 3 failing
          Repositories that need attention: 0
                               Outstanding: 1 blob, 1.5 KiB

                         Verification Status
--------------------------------------------
           Container Repositories verified: succeeded 990 / total 1000 (99%)

                                     Serving
--------------------------------------------
                                     Reads: local 9,000, fill 5, primary 4, stale 1 (since 2026-11-22T06:00:00.000Z)
                               Bytes saved: 3.0 GiB
                                     Store: 1.0 TiB free of 2.0 TiB
                           Primary answers: no: held tags are served as last confirmed

Unhealthy:
- The brake is tripped: the primary no longer lists 120 repositories and 1 tag that are here. If it is right, geo-registry brake --release lets them be hidden; if not, nothing is lost: mend the primary.

Not in step with the primary: 5 repositories not synced, 10 repositories not verified, 3 tags failing, 345 events pending, never compared with the primary as a whole.
`

describe('status', () => {
  it('has the shape of gitlab-rake geo:status, and ends with status 0 in step', async () => {
    const counts = async () => ({
      ...COUNTS,
      lastEventAtMs: NOW_MS - 120_000,
      lastAppliedEventAtMs: NOW_MS - 90_000,
    })
    await using site = await runningSite({ status: reportOf({ counts }) })

    expect(await site.run(['status'])).toEqual({ status: 0, out: IN_STEP, err: '' })
  })

  it('says all that is wrong, and ends with status 1', async () => {
    const status = reportOf({
      counts: async () => ({
        ...COUNTS,
        total: 1000,
        byState: { pending: 3, started: 0, synced: 995, failed: 2 },
        byVerificationState: { ...COUNTS.byVerificationState, pending: 10, succeeded: 990 },
        failingTags: 3,
        blobsOutstanding: 1,
        bytesOutstanding: 1536,
        eventsPending: 345,
        oldestEventAtMs: NOW_MS - 90_500,
        lastAppliedSequence: 12_000,
      }),
      brake: async () => ({
        trippedAtMs: NOW_MS - 7_200_000,
        repositories: 120,
        tags: 1,
        examples: [name('a')],
      }),
      queue: async () => ({ waiting: 1500, running: 0, paused: true }),
      reconcile: () => ({
        lastPassAtMs: undefined,
        achievedPeriodMs: undefined,
        settingMs: 1,
        error: undefined,
      }),
      store: async () => ({ ...(await HEALTHY.store()), bytes: undefined }),
      breakerIsOpen: () => true,
    })
    await using site = await runningSite({ status })

    expect(await site.run(['status'])).toEqual({ status: 1, out: BROKEN, err: '' })
  })

  it('says unknown for what cannot be asked, never zero', async () => {
    const gone = () => Promise.reject(new Error('gone'))
    const status = reportOf({ counts: gone, brake: gone, queue: gone, reconcile: gone, store: gone })
    await using site = await runningSite({ status })
    const result = await site.run(['status'])

    expect(result.status).toBe(1)
    expect(result.out.match(/: unknown$/gm)).toHaveLength(12)
    expect(result.out).toMatch(/Not in step with the primary: how far is unknown\.\n$/)
  })

  it.each([
    ['unhealthy though in step', { counts: async () => ({ ...COUNTS, needsAttention: 1 }) }, 1],
    ['behind though healthy', { counts: async () => ({ ...COUNTS, eventsPending: 1 }) }, 1],
    ['neither', {}, 0],
  ])('as JSON is the report on one line; exit status when %s', async (_, overrides, status) => {
    await using site = await runningSite({ status: reportOf(overrides) })
    const result = await site.run(['status', '--json'])

    expect(result.status).toBe(status)
    expect(result.out).toBe(`${JSON.stringify(await reportOf(overrides)())}\n`)
  })

  it('is printed again and again with --watch, until it is interrupted', async () => {
    await using site = await runningSite()
    const child = spawn(process.execPath, [MAIN, 'status', '--watch', '--json', '-c', site.configFile])
    let printed = ''
    child.stdout.on('data', (chunk) => {
      printed += String(chunk)
    })
    const ended = once(child, 'close')
    try {
      await vi.waitFor(() => expect(printed.split('\n').length).toBeGreaterThan(2), { timeout: 15_000 })
    } finally {
      child.kill('SIGINT')
    }
    await ended

    expect(JSON.parse(printed.split('\n')[1] ?? '')).toMatchObject({ healthy: true })
  })

  it('says so when the process that answers replicates nothing', async () => {
    await using site = await runningSite({}, { replication: undefined })

    for (const args of [['status'], ['resync', 'a'], ['plan'], ['undelete', 'a']]) {
      expect(await site.run(args)).toEqual({
        status: 1,
        out: '',
        err: 'the process that answered runs no replicator, or is another version of geo-registry\n',
      })
    }
  })
})

describe('explain', () => {
  it('says where a pull would be served from, why, and both digests', async () => {
    await using site = await runningSite()

    expect(await site.run(['explain', 'team/app:v1'])).toEqual({
      status: 0,
      out: `source: local
why:    confirmed within tags.trust
here:   ${digest('a')}, confirmed 2026-11-22T06:00:00.000Z
there:  nothing known
mode:   replicate
`,
      err: '',
    })
    expect(site.control.asked).toEqual([['explain', 'team/app', 'v1']])
  })

  it('is JSON for a program', async () => {
    await using site = await runningSite()

    expect(JSON.parse((await site.run(['explain', 'team/app:v1', '--json'])).out)).toMatchObject({
      source: 'local',
      digestThere: null,
    })
  })

  it.each(['team/app', 'team/app:', ':v1', 'Team/app:v1', 'host:5000/app'])(
    'takes no %j for an image',
    async (image) => {
      await using site = await runningSite()
      const result = await site.run(['explain', image])

      expect(result.status).toBe(2)
      expect(result.err).toContain('Expected a repository and a tag, such as team/app:v1.')
      expect(site.control.asked).toEqual([])
    },
  )
})
