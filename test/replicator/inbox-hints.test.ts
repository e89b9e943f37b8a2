import { describe, expect, it, vi } from 'vitest'
import { PRIORITIES } from '../../src/queue/queue.ts'
import { APP, repository, world } from './inbox-world.ts'

describe('a hint', () => {
  it('makes its repository due before those of events', async () => {
    const { inbox, calls } = world()

    await inbox.hint(APP)

    expect(calls).toEqual([`touch team/app ${PRIORITIES.asked} true`, `wake team/app ${PRIORITIES.asked}`])
  })

  it('does not try again what failed: clients pull it from the primary meanwhile, as often as they like', async () => {
    const { inbox, calls } = world({ row: { state: 'failed' } })

    await inbox.hint(APP)

    expect(calls).toEqual([])
  })

  it('that comes often is heeded at once and at the end of a rest, so that the last one counts', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { inbox, calls } = world()
    const touches = () => calls.filter((call) => call.startsWith('touch team/app')).length

    for (let index = 0; index < 1000; index++) await inbox.hint(APP)
    await inbox.hint(repository('team/other'))
    expect(touches()).toBe(1)

    await vi.advanceTimersByTimeAsync(5000)
    expect(touches()).toBe(2)
    await vi.advanceTimersByTimeAsync(5000)
    await inbox.hint(APP)
    expect(touches()).toBe(3)
    expect(calls.filter((call) => call.startsWith('touch team/other')).length).toBe(1)
  })

  it('that rests is forgotten when the inbox is given back', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { inbox, calls } = world()
    await inbox.hint(APP)
    await inbox.hint(APP)

    inbox[Symbol.dispose]()
    await vi.advanceTimersByTimeAsync(60_000)

    expect(calls.filter((call) => call.startsWith('touch')).length).toBe(1)
  })

  it.each(['rare/app', 'through/app', 'denied/app'])(
    'about %s, which is not replicated, does nothing',
    async (name) => {
      const { inbox, calls } = world()

      await inbox.hint(repository(name))

      expect(calls).toEqual([])
    },
  )

  it.each(['touch', 'wake'])('hurts nobody when %s fails, which the log says', async (port) => {
    const { inbox, logged } = world({ fail: [port] })

    await inbox.hint(APP)

    expect(logged.join()).toContain(`${port} is away`)
  })
})
