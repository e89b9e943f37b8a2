import { describe, expect, it } from 'vitest'
import { createReloadable } from '../../src/auth/reloadable.ts'

describe('a value that can be read again', () => {
  it('ends as the file was read last, however many reloads overlap', async () => {
    const reads: ((text: string) => void)[] = []
    const load = () => new Promise<string>((resolve) => reads.push(resolve))
    const created = createReloadable(load)
    reads[0]?.('first')
    const reloadable = await created

    const reloads = [reloadable.reload(), reloadable.reload()]
    await Promise.resolve()
    // The later reload has not begun to read: nothing it reads can be older than what the earlier one read.
    expect(reads).toHaveLength(2)
    reads[1]?.('second')
    await reloads[0]
    expect([reloadable.value, reloadable.version]).toEqual(['second', 1])
    reads[2]?.('third')
    await reloads[1]

    expect([reloadable.value, reloadable.version]).toEqual(['third', 2])
  })

  it('reads again after a reload that failed', async () => {
    const outcomes = [Promise.resolve('old'), Promise.reject(new Error('unreadable')), Promise.resolve('new')]
    const reloadable = await createReloadable(() => outcomes.shift() ?? Promise.reject(new Error('no more')))

    const [first, second] = await Promise.allSettled([reloadable.reload(), reloadable.reload()])

    expect([first?.status, second?.status]).toEqual(['rejected', 'fulfilled'])
    expect([reloadable.value, reloadable.version]).toEqual(['new', 1])
  })
})
