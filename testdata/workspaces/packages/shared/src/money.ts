export type Cents = number

export function cents (price: string): Cents {
  return Math.round(Number(price) * 100)
}
