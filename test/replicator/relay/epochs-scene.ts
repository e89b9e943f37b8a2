/** Two instances that return every canary at once, and a clock by hand. */
import type { EpochEndReason } from '../../../replicator/relay/epoch-ends.ts'
import { createEpochs, type Epochs, type EpochsOptions } from '../../../replicator/relay/epochs.ts'

export const A = 'http://10.0.0.1:5000'
export const B = 'http://10.0.0.2:5000'

export interface EpochsScene {
  readonly epochs: Epochs
  /** The process behind each address. */
  readonly processes: Map<string, string>
  nowMs(): number
  wait(ms: number): void
  /** An event that came, and the number the log has then. */
  hear(process: string | undefined, userAgent?: string): void
  /** Every instance is sent a canary, returns it 10 ms later, and a second passes. */
  beat(times?: number): void
  /** Beats until there is an epoch; how long it took. */
  begin(): number
  /** Why the last epoch ended, when exactly one has since the start. */
  ended(): { reason: EpochEndReason; instance: string | undefined; sentence: string }
}

export function createEpochsScene(options: Partial<EpochsOptions> = {}): EpochsScene {
  let nowMs = 1_000
  let logged = 0
  const processes = new Map([
    [A, 'process-a'],
    [B, 'process-b'],
  ])
  const epochs = createEpochs({ queueSize: 100, now: () => nowMs, ...options })
  epochs.instances([A, B])

  const scene: EpochsScene = {
    epochs,
    processes,
    nowMs: () => nowMs,
    wait(ms) {
      for (const endMs = nowMs + ms; nowMs < endMs; epochs.tick()) nowMs += Math.min(250, endMs - nowMs)
    },
    hear(process, userAgent = 'docker/28') {
      logged += 1
      epochs.heard([{ instanceId: process, userAgent }], logged)
    },
    beat(times = 1) {
      for (let time = 0; time < times; time++) {
        for (const [address, process] of processes) {
          const userAgent = epochs.sending(address)
          nowMs += 10
          scene.hear(process, userAgent)
        }
        scene.wait(1_000 - 10 * processes.size)
      }
    },
    begin() {
      const fromMs = nowMs
      for (let beats = 0; beats < 20 && epochs.watermark() === undefined; beats++) scene.beat()
      if (epochs.watermark() === undefined) throw new Error(`no epoch: ${epochs.note()}`)
      return nowMs - fromMs
    },
    ended() {
      const { lastEnd, ends } = epochs.state()
      const total = Object.values(ends).reduce((sum, count) => sum + count, 0)
      if (total !== 2 || ends[lastEnd.reason] !== 1) throw new Error(`ends: ${JSON.stringify(ends)}`)
      return lastEnd
    },
  }
  return scene
}
