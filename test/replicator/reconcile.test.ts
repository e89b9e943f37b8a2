/** What repairs every loss: what is due is woken again, and the primary's list is compared without removing by it. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createInventory } from '../../replicator/open-inventory.ts'
import { createLogger } from '../../src/log.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'
import { html, ociError } from '../support/lies.ts'
import { type Lie, sendHonestly, startLyingPrimary } from '../support/lying-primary.ts'
import { clientOf } from '../upstream/primary.ts'
import { HOUR_MS, reconcileScene, type Scene } from './reconcile-scene.ts'

const AWAY = new UpstreamError('unavailable', 'connection refused', { unreachable: true })

/** The machine may be busy with other tests. */
function eventually(check: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(check, { timeout: 20_000 })
}

let scene: Scene
beforeEach(async () => {
  scene = await reconcileScene()
})
afterEach(() => scene[Symbol.asyncDispose]())

function body(text: string, link?: string): Lie {
  const headers = link === undefined ? {} : { link }
  return (ask) => sendHonestly({ ...ask, honest: { status: 200, headers, body: Buffer.from(text) } })
}
function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, at) => `${prefix}/${at}`)
}
function warnings(): string[] {
  return scene.lines.filter(({ level }) => level === 'warn').map(({ msg }) => msg)
}

describe('looking at what is due', () => {
  it('wakes a repository whose wake-up was lost, as urgently as it was asked for', async () => {
    await scene.tracking.touch([nameOf('team/event')], { priority: 2 })
    await scene.tracking.touch([nameOf('team/asked')], { priority: 1 })
    scene.open().start()

    await eventually(() => expect(scene.woken()).toEqual(['team/asked', 'team/event']))
    expect(scene.wakes.find(({ key }) => key === 'team/asked')?.priority).toBe(1)
    expect(scene.wakes.find(({ key }) => key === 'team/event')?.priority).toBe(2)
  })

  it('goes on, and says so once, while the queue cannot be reached', async () => {
    await scene.tracking.touch([nameOf('team/app')], { priority: 2 })
    scene.queueError = new Error('no redis')
    scene.open().start()

    await eventually(() => expect(warnings()).toHaveLength(1))
    scene.queueError = undefined
    await eventually(() => expect(scene.woken()).toEqual(['team/app']))
    await eventually(() => expect(scene.lines.at(-1)?.msg).toMatch(/answer again|were compared/))
    expect(warnings()).toHaveLength(1)
  })

  it('leaves a repository in step alone for half of the period, and compares it well within it', async () => {
    const begun = scene.nowMs
    scene.pages = [['team/app']]
    await scene.synced('team/app', begun)
    const reconciler = scene.open()
    await reconciler.passNow()
    reconciler.start()

    scene.nowMs = begun + 12 * HOUR_MS
    await eventually(() => expect(reconciler.status().periodMs).toBe(12 * HOUR_MS))
    expect(scene.woken()).toEqual([])

    scene.nowMs = begun + 19 * HOUR_MS
    await eventually(() => expect(scene.woken()).toEqual(['team/app']))
    expect(scene.wakes[0]?.priority).toBe(3)
    expect((await scene.tracking.find(nameOf('team/app')))?.state).toBe('synced')
  })

  it('spreads what was copied in one night over the period, the recently active first', async () => {
    const begun = scene.nowMs
    for (const name of names('quiet', 50)) await scene.synced(name, begun)
    for (const name of names('active', 10)) await scene.synced(name, begun, { active: true })
    scene.pages = [[...names('quiet', 50), ...names('active', 10)]]
    const reconciler = scene.open()
    scene.nowMs = begun + 12 * HOUR_MS + 1
    await reconciler.passNow()
    const looks = vi.spyOn(scene.tracking, 'reconcilable')
    reconciler.start()
    await eventually(() => expect(looks).toHaveBeenCalled())

    scene.nowMs += 2 * HOUR_MS
    await eventually(() => expect(scene.woken().length).toBeGreaterThanOrEqual(6))

    // 60 repositories in 0.8 of 24 h are 6 in 2 h, though all of them are old enough.
    expect(scene.woken()).toHaveLength(6)
    expect(scene.woken().every((name) => name.startsWith('active/'))).toBe(true)
    scene.nowMs = begun + 18 * HOUR_MS + 1
    await eventually(() => expect(scene.woken()).toHaveLength(60))
  })

  it('shows the period achieved, and none while a repository was never compared', async () => {
    await scene.synced('team/app', scene.nowMs - HOUR_MS)
    scene.pages = [['team/app', 'team/new']]
    const reconciler = scene.open()
    reconciler.start()

    await eventually(async () => expect(await period()).toBe(3600))
    expect(reconciler.status().periodMs).toBe(HOUR_MS)
    await eventually(() => expect(scene.woken()).toEqual(['team/new']))
    scene.nowMs += 61_000
    await eventually(async () => expect(await period()).toBeNaN())
    expect(reconciler.status().periodMs).toBeUndefined()
  })

  async function period(): Promise<number | undefined> {
    return (await scene.metrics.reconcilePeriodSeconds.get()).values[0]?.value
  }
})

describe('a pass over the list of repositories', () => {
  it('tracks what is listed and to be replicated, and nothing else', async () => {
    scene.rules = [
      { pattern: 'cache/**', mode: 'ondemand' },
      { pattern: 'secret/**', mode: 'deny' },
      { pattern: 'through/**', mode: 'passthrough' },
    ]
    scene.pages = [
      ['team/app', 'cache/app'],
      ['secret/app', 'through/app', 'team/b'],
    ]

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ listed: 5, discovered: 2, gone: 0, disallowed: 0 })
    expect((await scene.tracking.list({})).map(({ path }) => path)).toEqual(['team/app', 'team/b'])
  })

  it('has each repository that is here and not there asked about by its own job', async () => {
    scene.pages = [['team/app']]
    for (const name of ['team/app', 'gone/a', 'gone/b']) scene.held.set(name, 2)

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ gone: 2, heldBack: 0, examples: ['gone/a', 'gone/b'] })
    expect(scene.woken()).toEqual(['gone/a', 'gone/b'])
    expect((await scene.tracking.find(nameOf('gone/a')))?.state).toBe('pending')
  })

  it.each([
    ['an empty catalog', []],
    ['a catalog cut short', [['kept/0', 'kept/1']]],
  ])('touches none of 150 repositories that %s leaves out', async (_what, pages) => {
    scene.pages = pages
    for (const name of names('team', 150)) {
      scene.held.set(name, 1)
      await scene.synced(name, scene.nowMs)
    }
    scene.nowMs += 1

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ gone: 150, heldBack: 150 })
    expect(scene.woken()).toEqual([])
    expect(await scene.brake.status()).toMatchObject({ repositories: 150, tags: 150 })
    expect((await scene.tracking.counts()).byState).toMatchObject({ synced: 150, pending: pages.length * 2 })
  })

  it('names what waited again once the brake was released, and once only', async () => {
    for (const name of names('gone', 120)) scene.held.set(name, 1)
    scene.open().start()
    await eventually(async () => expect((await scene.brake.status()).trippedAtMs).toBeDefined())
    expect(scene.woken()).toEqual([])

    await scene.brake.release()

    await eventually(() => expect(scene.woken()).toHaveLength(120))
    await eventually(async () => expect(await scene.tracking.cursor('reconcile')).toContain('releasedAtMs'))
    expect(scene.lists).toBe(2)
    expect(await scene.brake.allows([{ repository: nameOf('gone/0'), tags: 1, whole: true }])).toBe(true)
  })

  it('serves a release that came while nothing ran', async () => {
    for (const name of names('gone', 120)) scene.held.set(name, 1)
    await scene.open().passNow()
    await scene.brake.release()

    scene.open().start()

    await eventually(() => expect(scene.woken()).toHaveLength(120))
  })

  it('takes nothing for gone when the list breaks off, and keeps what it learnt', async () => {
    for (const name of ['team/app', 'team/other']) scene.held.set(name, 1)
    scene.pages = [['team/new'], AWAY]
    const reconciler = scene.open()

    await expect(reconciler.passNow()).rejects.toBe(AWAY)

    expect(scene.woken()).toEqual([])
    expect((await scene.tracking.list({})).map(({ path }) => path)).toEqual(['team/new'])
    expect(reconciler.status()).toMatchObject({ lastPass: undefined, failure: { message: AWAY.message } })
  })

  it.each([
    ['an HTML 401', html(401)],
    ['an HTML 403', html(403)],
    ["an ingress's HTML 404", html(404)],
    ['a sign-in page with 200', html(200)],
    ['NAME_UNKNOWN', ociError(404, 'NAME_UNKNOWN')],
    ['a list that is cut in the middle', body('{"repositories":["team/0","team')],
    [
      'a list that runs in circles',
      body('{"repositories":["team/0"]}', '</v2/_catalog?last=team/0>; rel="next"'),
    ],
  ])('takes nothing for gone when the catalog is answered with %s', async (_what, lie) => {
    await using primary = await startLyingPrimary()
    const { upstream, dispatcher } = clientOf(primary.url)
    primary.lie('GET', '/v2/_catalog', lie)
    scene.inventory = createInventory({ upstream, log: createLogger({ level: 'silent' }) })
    for (const name of names('team', 50)) scene.held.set(name, 1)

    await expect(scene.open().passNow()).rejects.toThrow(UpstreamError)
    await dispatcher.close()

    expect(scene.woken()).toEqual([])
    expect(await scene.brake.status()).toMatchObject({ trippedAtMs: undefined, repositories: 0 })
  })

  it('tries again after an outage, and speaks of it once', async () => {
    scene.pages = [AWAY]
    scene.held.set('gone/app', 1)
    const reconciler = scene.open()
    reconciler.start()
    await eventually(() => {
      scene.nowMs += 1000
      expect(scene.lists).toBeGreaterThanOrEqual(4)
    })
    expect(warnings()).toHaveLength(1)

    scene.pages = [['team/app']]

    await eventually(() => {
      scene.nowMs += 1000
      expect(scene.woken()).toEqual(['gone/app', 'team/app'])
    })
    expect(reconciler.status().failure).toBeUndefined()
  })

  it('waits longer after each failure', async () => {
    scene.pages = [AWAY]
    const reconciler = scene.open()
    for (let time = 0; time < 8; time++) await expect(reconciler.passNow()).rejects.toBe(AWAY)
    reconciler.start()

    scene.nowMs += 5 * 2 ** 7 // Less than the eighth wait can be.
    const looks = scene.wakes.length
    await scene.tracking.touch([nameOf('team/app')], { priority: 2 })
    await eventually(() => expect(scene.wakes.length).toBeGreaterThan(looks + 3))

    expect(scene.lists).toBe(8)
  })

  it('does not begin again after a restart before the period is over', async () => {
    scene.pages = [['team/app']]
    const before = await scene.open().passNow()
    scene.nowMs += 24 * HOUR_MS - 1
    const reconciler = scene.open()
    reconciler.start()
    await eventually(() => expect(reconciler.status().lastPass).toMatchObject(before))
    await eventually(() => expect(scene.wakes.length).toBeGreaterThan(3))
    expect(scene.lists).toBe(1)

    scene.nowMs += 1

    await eventually(() => expect(scene.lists).toBe(2))
  })

  it('is not put off for ever by a clock that was set back', async () => {
    await scene.open().passNow()
    scene.nowMs -= 1000 * HOUR_MS

    scene.open().start()

    await eventually(() => expect(scene.lists).toBe(2))
  })

  it('does not take for gone what was pushed while the list was being read', async () => {
    const page = Promise.withResolvers<readonly string[]>()
    scene.pages = [page.promise]
    const passing = scene.open().passNow()
    await eventually(() => expect(scene.lists).toBe(1))
    scene.nowMs += 1
    scene.held.set('team/new', 1)
    await scene.synced('team/new', scene.nowMs)
    page.resolve(['team/app'])

    expect(await passing).toMatchObject({ gone: 0 })
    expect(scene.woken()).toEqual([])
  })

  it('asks about repositories without a tag without counting them as a loss: GitLab lists no empty ones', async () => {
    for (const name of names('empty', 150)) scene.held.set(name, 0)

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ gone: 0, heldBack: 0 })
    expect(scene.woken()).toHaveLength(150)
    expect((await scene.brake.status()).trippedAtMs).toBeUndefined()
  })

  it('asks about a repository that is tracked, not listed and not here, unless that is known', async () => {
    await scene.synced('gone/app', scene.nowMs)
    scene.nowMs += 1

    await scene.open().passNow()

    expect(scene.woken()).toEqual(['gone/app'])
  })

  it('removes through the brake what is here and no longer allowed; what is kept on demand stays', async () => {
    scene.rules = [
      { pattern: 'cache/**', mode: 'ondemand' },
      { pattern: 'secret/**', mode: 'deny' },
      { pattern: 'through/**', mode: 'passthrough' },
    ]
    const held = ['cache/app', 'secret/app', 'through/app', 'team/app']
    scene.pages = [held]
    for (const name of held) scene.held.set(name, 3)
    await scene.synced('secret/unheld', scene.nowMs)

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ gone: 0, disallowed: 2, heldBack: 0 })
    expect(scene.woken()).toEqual(['secret/app', 'through/app'])
    expect(warnings()).toHaveLength(1)
    expect(await scene.tracking.find(nameOf('secret/unheld'))).toBeUndefined()
  })

  it('stops at the brake when a changed pattern would remove a hundred repositories', async () => {
    scene.rules = [{ pattern: '**', mode: 'passthrough' }]
    scene.pages = [names('team', 100)]
    for (const name of names('team', 100)) scene.held.set(name, 1)

    const report = await scene.open().passNow()

    expect(report).toMatchObject({ disallowed: 100, heldBack: 100 })
    expect(scene.woken()).toEqual([])
  })

  it('makes one pass after another, never two at a time', async () => {
    const page = Promise.withResolvers<readonly string[]>()
    scene.pages = [page.promise]
    const reconciler = scene.open()
    const passes = [reconciler.passNow(), reconciler.passNow()]
    await eventually(() => expect(scene.lists).toBe(1))
    expect(reconciler.status().passRunning).toBe(true)

    page.resolve(['team/app'])
    const reports = await Promise.all(passes)

    expect(scene.lists).toBe(2)
    expect(reports.map(({ discovered }) => discovered)).toEqual([1, 0])
  })

  it('is over soon after it is closed, whatever the primary keeps it waiting for', async () => {
    scene.pages = [new Promise(() => {})]
    const reconciler = scene.open()
    reconciler.start()
    await eventually(() => expect(reconciler.status().passRunning).toBe(true))

    await reconciler.close()

    expect(reconciler.status()).toMatchObject({ passRunning: false, failure: undefined })
    expect(warnings()).toEqual([])
  })
})
