/** What a watermark says, and that nothing that proves less makes or ends one. */
import { describe, expect, it, vi } from 'vitest'
import { endSentence, NO_ENDS } from '../../../replicator/relay/epoch-ends.ts'
import { createEpochs } from '../../../replicator/relay/epochs.ts'
import { A, B, createEpochsScene } from './epochs-scene.ts'

describe('an epoch', () => {
  it('begins 5 s after a canary that every known process returned, and says until then that the relay was started', () => {
    const scene = createEpochsScene()

    expect(scene.epochs.note()).toMatch(/^The relay was started; /)
    scene.beat(6)
    expect(scene.epochs.watermark()).toBeUndefined()
    scene.beat(1)

    expect(scene.epochs.watermark()).toBeDefined()
    expect(scene.epochs.note()).toBeUndefined()
    expect(scene.epochs.state()).toMatchObject({
      instances: [
        { address: A, instanceId: 'process-a' },
        { address: B, instanceId: 'process-b' },
      ],
      canaries: { sent: 14, returned: 14, lost: 0, refused: 0 },
      lastEnd: { reason: 'relay-started' },
      setback: undefined,
    })
  })

  it('does not begin as long as one instance has returned no canary', () => {
    const scene = createEpochsScene()
    scene.processes.delete(B)

    scene.beat(20)

    expect(scene.epochs.watermark()).toBeUndefined()
  })

  it('waits anew when something breaks while it waits, says what, and counts no end', () => {
    const scene = createEpochsScene()
    scene.beat(5)

    scene.epochs.receiverFailed('503')
    expect(scene.epochs.note()).toContain('this relay refused a notification (503)'.slice(4))
    expect(scene.epochs.state().setback).toMatchObject({ reason: 'receiver-failed' })

    expect(scene.begin()).toBeGreaterThanOrEqual(5_000)
    expect(scene.epochs.state().ends).toEqual({ ...NO_ENDS, 'relay-started': 1 })
    expect(scene.epochs.state().setback).toBeUndefined()
  })

  it('has an id that no other has, and rounds that begin at 1', () => {
    const scene = createEpochsScene()
    const rounds: [epoch: string | undefined, round: number | undefined][] = []
    scene.epochs.onChange(() => {
      rounds.push([scene.epochs.watermark()?.epoch, scene.epochs.watermark()?.round])
    })

    scene.begin()
    scene.beat(3)
    scene.epochs.logFailed(new Error('disk full'))
    const ended = rounds.length
    scene.begin()

    const [first] = rounds[0] ?? []
    expect(rounds.slice(0, ended - 1)).toEqual(
      rounds.slice(0, ended - 1).map((_, index) => [first, index + 1]),
    )
    expect(rounds[ended - 1]).toEqual([undefined, undefined])
    expect(rounds[ended]).toEqual([expect.not.stringMatching(String(first)), 1])
  })
})

describe('a watermark', () => {
  it('is as old as the oldest of the latest canaries, and reaches to what was logged when it came back', () => {
    const scene = createEpochsScene()
    scene.begin()
    const sentAtMs = scene.nowMs()
    const [toA, toB] = [scene.epochs.sending(A), scene.epochs.sending(B)]

    scene.wait(100)
    scene.hear('process-a')
    scene.hear('process-a', toA)
    expect(scene.epochs.watermark()?.sentAtMs).toBeLessThan(sentAtMs)
    scene.wait(200)
    scene.epochs.heard([{ instanceId: 'process-b', userAgent: toB }], 4_711)

    expect(scene.epochs.watermark()).toMatchObject({ sentAtMs, through: 4_711 })
    expect(scene.epochs.state().watermarkAgeMs).toBe(300)
  })

  it('is no newer than the question that named the instances', () => {
    const scene = createEpochsScene()
    scene.epochs.instances([A, B], 500)
    scene.begin()

    expect(scene.epochs.watermark()?.sentAtMs).toBe(500)
    const askedAtMs = scene.nowMs() - 1_500
    scene.epochs.instances([B, A], askedAtMs)

    expect(scene.epochs.watermark()).toMatchObject({ sentAtMs: askedAtMs, round: 2 })
  })

  it('is told of at each of its rounds, at the end of its epoch, and to nobody who has enough', () => {
    const scene = createEpochsScene()
    const listener = vi.fn<() => void>()
    const enough = scene.epochs.onChange(listener)
    scene.begin()
    scene.beat()

    const rounds = scene.epochs.watermark()?.round
    expect(listener).toHaveBeenCalledTimes(rounds ?? 0)
    scene.epochs.receiverFailed('503')
    expect(listener).toHaveBeenCalledTimes((rounds ?? 0) + 1)
    scene.epochs.receiverFailed('503')
    expect(listener).toHaveBeenCalledTimes((rounds ?? 0) + 1)

    enough()
    scene.begin()
    expect(listener).toHaveBeenCalledTimes((rounds ?? 0) + 1)
  })
})

describe('an epoch does not end', () => {
  it('by an event that its sender sends again, canaries among them', () => {
    const scene = createEpochsScene()
    scene.begin()

    const canary = scene.epochs.sending(A)
    for (let times = 0; times < 5; times++) scene.hear('process-a', canary)

    expect(scene.epochs.watermark()).toBeDefined()
  })

  it('by a canary of a former run, or one that somebody made up', () => {
    const scene = createEpochsScene()
    scene.begin()
    const [text, number] = scene.epochs.sending(A).split(/\.(?=\d+$)/)

    for (const userAgent of [
      'geo-registry canary/0123456789abcdef0123456789abcdef.7',
      `${text}.${Number(number) + 1}`,
      'geo-registry canary/',
      '',
    ]) {
      scene.hear('process-a', userAgent)
    }

    expect(scene.epochs.watermark()).toBeDefined()
  })

  it('by fewer events between two canaries than a queue holds', () => {
    const scene = createEpochsScene({ queueSize: 100 })
    scene.begin()

    for (let beats = 0; beats < 5; beats++) {
      scene.beat()
      for (let event = 0; event < 90; event++) scene.hear('process-a')
    }

    expect(scene.epochs.watermark()).toBeDefined()
  })

  it('by the events of other processes that are named', () => {
    const scene = createEpochsScene({ queueSize: 100 })
    scene.begin()

    for (let event = 0; event < 90; event++) for (const id of ['process-a', 'process-b']) scene.hear(id)

    expect(scene.epochs.watermark()).toBeDefined()
  })

  it('by canaries that take almost 2 s, or by two addresses of one process', () => {
    const scene = createEpochsScene()
    scene.processes.set(B, 'process-a')
    scene.begin()
    const canaries = [A, B].map((address) => scene.epochs.sending(address))

    scene.wait(1_950)
    for (const canary of canaries) scene.hear('process-a', canary)

    expect(scene.epochs.watermark()).toBeDefined()
  })

  it('by the same addresses in another order, or by news of an instance that is not there', () => {
    const scene = createEpochsScene()
    scene.begin()

    scene.epochs.instances([B, A, A])
    scene.epochs.refused('http://10.0.0.9:5000', 'connection refused')
    expect(scene.epochs.sending('http://10.0.0.9:5000')).toMatch(/^geo-registry canary\/[0-9a-f]{32}\.\d+$/)

    expect(scene.epochs.watermark()).toBeDefined()
  })
})

describe('a canary', () => {
  it('has a text that cannot be known before it is sent, and a number that grows', () => {
    const { epochs } = createEpochsScene()
    const texts = Array.from({ length: 100 }, () => epochs.sending(A))

    const parts = texts.map((text) => /^geo-registry canary\/([0-9a-f]{32})\.(\d+)$/.exec(text))
    expect(new Set(parts.map((part) => part?.[1])).size).toBe(100)
    expect(parts.map((part) => Number(part?.[2]))).toEqual(
      Array.from({ length: 100 }, (_, index) => index + 1),
    )
  })

  it('proves nothing when it was sent before the end of the epoch', () => {
    const scene = createEpochsScene()
    scene.begin()
    const early = [A, B].map((address) => scene.epochs.sending(address))
    scene.epochs.receiverFailed('503')
    const endedAtMs = scene.nowMs()

    scene.hear('process-a', early[0])
    scene.hear('process-b', early[1])
    scene.wait(4_000)
    scene.begin()

    expect(scene.nowMs() - endedAtMs).toBeGreaterThanOrEqual(9_000)
  })
})

it('says what is missing while no instance is known', () => {
  const epochs = createEpochs({ queueSize: 100 })

  expect(epochs.note()).toContain('are being resolved, or it names none')
  epochs.instances([])
  epochs.heard([{ instanceId: 'process-a', userAgent: 'docker/28' }], 1)
  epochs.tick()

  expect(epochs.note()).toContain('names no instance')
  expect(epochs.watermark()).toBeUndefined()
})

it('every sentence says in one what happened and what to do', () => {
  for (const reason of Object.keys(NO_ENDS) as (keyof typeof NO_ENDS)[]) {
    expect(endSentence({ reason, instance: A, detail: 'the detail' })).toMatch(/^[A-Z][^.;]*.*; .*\.$/s)
    expect(endSentence({ reason })).not.toContain('undefined')
  }
})
