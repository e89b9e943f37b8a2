import { describe, expect, it } from 'vitest'
import { createTagChecks } from '../../proxy/tag-checks.ts'

function gates() {
  const sent: PromiseWithResolvers<number>[] = []
  const send = () => {
    const gate = Promise.withResolvers<number>()
    sent.push(gate)
    return gate.promise
  }
  return { sent, send }
}

describe('tag checks', () => {
  it('lets no asker join a check that was already sent', async () => {
    const { sent, send } = gates()
    const checks = createTagChecks<number>()

    const first = checks('k', send)
    const second = checks('k', send)
    const third = checks('k', send)
    sent[0]?.resolve(1)
    expect(await first).toBe(1)
    await Promise.resolve()
    sent[1]?.resolve(2)

    expect(await Promise.all([second, third])).toEqual([2, 2])
    expect(sent).toHaveLength(2)
  })

  it('asks again for those who waited behind a check that failed', async () => {
    const { sent, send } = gates()
    const checks = createTagChecks<number>()

    const first = checks('k', send)
    const second = checks('k', send)
    sent[0]?.reject(new Error('timed out'))
    await expect(first).rejects.toThrow('timed out')
    await Promise.resolve()
    sent[1]?.resolve(2)

    expect(await second).toBe(2)
  })

  it('keeps callers with different keys apart and forgets keys that are done', async () => {
    const { sent, send } = gates()
    const checks = createTagChecks<number>()

    const a = checks('a', send)
    const b = checks('b', send)
    expect(sent).toHaveLength(2)
    sent[0]?.resolve(1)
    sent[1]?.resolve(2)
    expect(await Promise.all([a, b])).toEqual([1, 2])
    const again = checks('a', send)
    sent[2]?.resolve(3)

    expect(await again).toBe(3)
  })
})
